// Takes the pictures of docs/console.md of a running shop:
//
//   stanby dev --demo       for some minutes; it prints the address of the console and the token
//   node tests/console/figures.mjs http://127.0.0.1:8222 TOKEN docs/figures/console
import { join } from "node:path";
import { chromium } from "playwright-core";

const [, , server, token, into] = process.argv;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const context = await browser.newContext({ viewport: { width: 1100, height: 720 } });
const page = await context.newPage();
const take = (name) => page.screenshot({ path: join(into, `${name}.png`), fullPage: true });

await page.goto(`${server}/console`);
await page.fill("#password", token);
await page.click("main button[type=submit]");
await page.waitForSelector(".live .uplot canvas");
await take("now");
await page.goto(`${server}/console/durables`);
await page.click("#list a:text-is('mail')");
await page.waitForSelector("h1:has-text('Durable mail')");
await take("durable");
await page.click("text=Skip messages…");
await page.click("text=See what it would do");
await page.waitForSelector("text=what it would do");
await take("preview");
await browser.close();
