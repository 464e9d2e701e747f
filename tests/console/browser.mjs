// Opens every page of the console in Chromium, as a person would, at a pair that tests/node/console_browser.rs has started.
// Prints what is wrong, a line each; nothing is wrong when it prints nothing and ends with 0.
import { createRequire } from "node:module";
import { readFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { HtmlValidate } from "html-validate";
import { answers } from "./questions.mjs";

const require = createRequire(import.meta.url);
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const { ACTIVE, STANDBY, PASSWORD, ACTIVE_PID, NASTY, CHROMIUM, SCREENSHOTS, DOCS } = process.env;
if (SCREENSHOTS) mkdirSync(SCREENSHOTS, { recursive: true });

let wrong = 0;
const complain = (text) => { wrong += 1; console.log(text); };
const expect = (is, text) => { if (!is) complain(text); };

const html = new HtmlValidate({
  extends: ["html-validate:standard"],
  rules: {
    // How it is written, which nobody sees.
    "void-style": "off", "long-title": "off", "no-inline-style": "error", "attribute-boolean-style": "off",
    "attr-quotes": "off", "no-trailing-whitespace": "off", "doctype-style": "off", "attribute-empty-style": "off",
    // Browsers reckon without these.
    "require-sri": "off", "prefer-native-element": "off", "tel-non-breaking": "off",
  },
});

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  // A machine may be busy; what is wrong shows all the same.
  context.setDefaultTimeout(120_000);
  const page = await context.newPage();
  page.on("dialog", (dialog) => { complain(`${page.url()}: a script of others ran`); dialog.dismiss(); });
  page.on("pageerror", (error) => complain(`${page.url()}: ${error}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !page.isLeft) complain(`${page.url()}: ${message.text()}`);
  });
  return page;
}

async function logIn(page, server, name = "operator") {
  await page.goto(`${server}/console`);
  expect(page.url().includes("/console/login"), "a page is shown without logging in");
  if (await page.$("#name")) await page.fill("#name", name);
  await page.fill("#password", PASSWORD);
  await page.click("main button[type=submit]");
  await page.waitForURL(`${server}/console`);
}

const statuses = { nothing: 404, "no-such-channel": 404 };
const about = (given) => new URLSearchParams(given).toString();
const pages = {
  now: "/console",
  channels: "/console/channels",
  channel: `/console/channel?${about({ name: "orders" })}`,
  messages: `/console/messages?${about({ channel: "orders" })}`,
  search: `/console/messages?${about({ channel: "orders", json: "id=3" })}`,
  message: `/console/message?${about({ channel: "orders", sequence: "3" })}`,
  hex: `/console/message?${about({ channel: "orders", sequence: "3", as: "hex" })}`,
  durables: "/console/durables",
  durable: `/console/durable?${about({ channel: "orders", durable: "billing" })}`,
  clients: "/console/clients",
  client: `/console/client?${about({ id: "worker" })}`,
  takeovers: "/console/takeovers",
  "dead-letters": "/console/dead-letters",
  doctor: "/console/doctor",
  audit: "/console/audit",
  request: "/console/request?id=1",
  "no-such-channel": `/console/channel?${about({ name: "oders" })}`,
  "nothing-found": `/console/channels?${about({ filter: "zzz" })}`,
  "group-of-markup": `/console/durable?${about({ channel: "orders", durable: "<i>d", queue_group: "<script>alert(4)</script>" })}`,
  sql: `/console/sql/durable?${about({ channel: "orders", durable: "billing" })}`,
  purge: `/console/act/channel-purge?${about({ channel: "orders" })}`,
  seek: `/console/act/durable-seek?${about({ channel: "orders", durable: "billing" })}`,
  nasty: `/console/channel?${about({ name: NASTY })}`,
  nothing: "/console/nothing",
};

async function judge(page, name, theme) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
  }));
  for (const it of found.violations.filter((it) => ["serious", "critical"].includes(it.impact))) {
    complain(`${name} (${theme}): ${it.id}: ${it.help}: ${it.nodes.slice(0, 3).map((node) => node.html).join(" | ")}`);
  }
}

async function everyPage(server) {
  for (const theme of ["light", "dark"]) {
    const page = await open({ colorScheme: theme, bypassCSP: true });
    await judgeLogin(page, server, theme);
    for (const [name, path] of Object.entries(pages)) {
      const status = statuses[name] ?? 200;
      page.isLeft = status !== 200;
      const answer = await page.goto(server + path);
      expect(answer.status() === status, `${name}: ${answer.status()}`);
      const source = await answer.text();
      expect(source.length < 1_000_000, `${name}: ${source.length} bytes`);
      if (theme === "light") {
        const report = await html.validateString(source);
        for (const result of report.results) {
          for (const it of result.messages) complain(`${name}: ${it.ruleId} at ${it.line}:${it.column}: ${it.message}`);
        }
      }
      await judge(page, name, theme);
      for (const width of [1280, 420]) {
        await page.setViewportSize({ width, height: 900 });
        const needed = await page.evaluate(() => document.scrollingElement.scrollWidth);
        expect(needed <= width, `${name}: ${needed} px wide at ${width}`);
        if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, `${name}-${theme}-${width}.png`), fullPage: true });
      }
      await page.setViewportSize({ width: 1280, height: 900 });
    }
    await page.context().close();
  }
}

async function judgeLogin(page, server, theme) {
  await page.goto(`${server}/console/login`);
  await judge(page, "login", theme);
  await logIn(page, server);
}

async function withoutScripts(server) {
  const page = await open({ javaScriptEnabled: false });
  await logIn(page, server);
  for (const [name, path] of Object.entries(pages)) {
    page.isLeft = name in statuses;
    await page.goto(server + path);
  }
  await page.goto(`${server}/console/channels`);
  await page.fill("#filter", "order");
  await page.keyboard.press("Enter");
  await page.waitForURL(/filter=order/);
  expect((await page.textContent("#list")).includes("orders"), "a search without scripts finds nothing");
  await page.goto(server + pages.now);
  expect(await page.isVisible("svg.spark"), "without scripts there is no plot");
  await page.context().close();
}

async function keyboard(server) {
  const page = await open();
  await logIn(page, server);
  await page.keyboard.press("Tab");
  expect(await page.evaluate(() => document.activeElement.className) === "skip", "Tab does not begin with the link to the page");
  await page.goto(`${server}/console/durables`);
  await page.keyboard.press("/");
  await page.keyboard.type("billing");
  await page.waitForURL(/filter=billing/);
  expect((await page.textContent("#list")).includes("billing"), "typing does not search");
  await page.context().close();
}

// As somebody would who knows no address but the first page's. docs/console.md says how many clicks each question takes, and
// docs/cookbook.md asks them.
async function questions(server) {
  const page = await open();
  await logIn(page, server);
  const asked = [...readFileSync(join(DOCS, "cookbook.md"), "utf8").matchAll(/^## \d+\. (.*)$/gm)].map((it) => it[1]);
  const documented = readFileSync(join(DOCS, "console.md"), "utf8");
  for (const question of asked) {
    expect(question in answers || documented.includes(`- [${question}](cookbook.md#`), `no walk answers: ${question}`);
  }
  for (const [question, { steps, shows }] of Object.entries(answers)) {
    expect(asked.includes(question), `the cookbook does not ask: ${question}`);
    expect(steps.length <= 4, `${question}: ${steps.length} clicks`);
    await page.goto(`${server}/console`);
    for (const step of steps) {
      if (step.type) {
        await page.fill(step.into, step.type);
        await page.press(step.into, "Enter");
      } else if (step.choose) {
        await page.selectOption(step.from, step.choose);
      } else {
        await page.click(step);
      }
    }
    const shown = page.locator("main", { hasText: shows });
    await shown.waitFor({ timeout: 30_000 }).catch(() => complain(`${question}: ${page.url()} does not say ${shows}`));
    const row = documented.split("\n").find((line) => line.startsWith(`| [${question}](cookbook.md#`)) ?? "";
    expect(row.endsWith(`) | ${steps.length} |`), `docs/console.md: ${question}: ${steps.length} clicks, not: ${row}`);
  }
  await page.context().close();
}

async function liveFigures(server) {
  const page = await open();
  await logIn(page, server);
  await page.waitForSelector(".live .uplot canvas");
  await page.waitForFunction(() => document.querySelector("[data-now=published]").textContent !== "–");
  await page.context().close();
}

async function verb(page, server, path, fill, expected) {
  await page.goto(server + path);
  for (const [name, value] of Object.entries(fill)) await page.fill(`[name=${name}]`, value);
  await page.click("text=See what it would do");
  await page.waitForSelector("text=what it would do");
  await page.click("button:text('Do it')");
  await page.waitForSelector("h1:has-text('Done')");
  for (const text of expected) expect((await page.textContent("main")).includes(text), `${path}: no ${text}`);
}

async function verbs(server) {
  const page = await open();
  await logIn(page, server);
  const durable = about({ channel: "orders", durable: "billing" });
  await verb(page, server, `/console/act/durable-pause?${durable}`, {}, ["resume it"]);
  await page.goto(server + pages.now);
  expect((await page.textContent("main")).includes("paused"), "Now does not say that a durable is paused");
  await verb(page, server, `/console/act/durable-resume?${durable}`, {}, ["pause it again"]);
  await verb(page, server, `/console/act/durable-seek?${durable}`, { to: "first" }, ["set it back"]);
  await verb(page, server, "/console/act/channel-create", { channel: "made-here", max_msgs: "7" }, ["delete it"]);
  await verb(page, server, `/console/act/channel-limits?${about({ channel: "made-here" })}`, { max_msgs: "9" }, ["9"]);
  await verb(page, server, `/console/act/channel-delete?${about({ channel: "made-here" })}`, {}, ["are gone"]);
  const message = about({ channel: "orders", sequence: "2" });
  await verb(page, server, `/console/act/message-republish?${message}`, {}, ["delete the new messages"]);
  await verb(page, server, `/console/act/message-delete?${message}`, {}, ["are gone"]);
  await verb(page, server, `/console/act/channel-purge?${about({ channel: "orders" })}`, { keep: "4" }, ["are gone"]);
  await verb(page, server, `/console/act/durable-skip?${about({ channel: "orders", durable: "slow" })}`, { first: "5", last: "5" }, ["republish"]);
  await verb(page, server, `/console/act/durable-remove?${about({ channel: "orders", durable: "left" })}`, {}, ["it comes back"]);
  await verb(page, server, `/console/act/client-kick?${about({ client_id: "kicked" })}`, {}, ["connects again"]);
  await page.goto(`${server}/console/audit`);
  const audit = await page.textContent("main");
  for (const word of ["durable pause", "durable seek", "channel delete", "message republish", "client kick", "console: "]) {
    expect(audit.includes(word), `the audit has no ${word}`);
  }
  await page.goto(`${server}/console/act/channel-purge?${about({ channel: "oders" })}`);
  await page.fill("[name=keep]", "1");
  await page.click("text=See what it would do");
  await page.waitForSelector("main [role=alert]");
  expect((await page.textContent("main [role=alert]")).includes("orders"), "a wrong name is not answered with the right one");
  await page.context().close();
}

// Who is in a hurry, goes back, or whose log-in ends.
async function mishaps(server) {
  const page = await open();
  await logIn(page, server);
  const count = async () => {
    await page.goto(`${server}/console/channel?${about({ name: "orders" })}`);
    return Number(await page.textContent(".figure:has(dt:has-text('Messages')) dd"));
  };
  const before = await count();
  await page.goto(`${server}/console/act/message-republish?${about({ channel: "orders", sequence: "5" })}`);
  await page.click("text=See what it would do");
  await page.dblclick("button:text('Do it')");
  await page.waitForSelector("h1:has-text('Done')");
  await page.reload();
  await page.waitForSelector("h1:has-text('Done')");
  await page.goBack();
  await page.click("button:text('Do it')");
  await page.waitForSelector("h1:has-text('Done')");
  const after = await count();
  expect(after === before + 1, `a double click, a reload and a step back made ${after - before} messages of one`);

  // Two tabs: one logs out, and the other one has a list open and types.
  await page.goto(`${server}/console/channels`);
  const other = await page.context().newPage();
  await other.goto(`${server}/console`);
  await other.click("text=Log out");
  await other.waitForURL(/login/);
  page.isLeft = true;
  await page.fill("#filter", "ord");
  await page.waitForURL(/console\/login/);
  await page.fill("#name", "operator");
  await page.fill("#password", PASSWORD);
  await page.click("main button[type=submit]");
  await page.waitForURL(/console\/channels/);
  await page.context().close();
}

// A link that somebody has gone to by the keyboard keeps the focus while the first page is loaded anew.
async function focus(server) {
  const page = await open();
  await logIn(page, server);
  await page.locator("#now .problems a").first().focus();
  const here = await page.evaluate(() => document.activeElement.href);
  await page.evaluate(() => { document.getElementById("now").dataset.old = "yes"; });
  await page.waitForSelector("#now:not([data-old])");
  await page.waitForFunction((href) => document.activeElement.href === href, here);
  await page.context().close();
}

async function refusedAndLimited(server) {
  const page = await open();
  page.isLeft = true;
  await page.goto(`${server}/console/login`);
  const guess = async () => {
    await page.fill("#name", "operator");
    await page.fill("#password", "a guess");
    // The page that is left has an alert of its own.
    await Promise.all([page.waitForNavigation(), page.click("main button[type=submit]")]);
    await page.waitForSelector("main [role=alert]");
  };
  await guess();
  expect((await page.textContent("main [role=alert]")).includes("is wrong"), "a wrong password is not told");
  // Many at once, and again: on a busy machine as many may be let in again before the next one.
  const told = async () => (await page.textContent("main [role=alert]")).includes("Too many wrong passwords");
  for (let round = 0; round < 20 && !(await told()); round += 1) {
    await page.evaluate(async () => {
      const form = document.querySelector("main form");
      const body = new URLSearchParams(new FormData(form));
      body.set("name", "operator");
      body.set("password", "a guess");
      await Promise.all(Array.from({ length: 30 }, () => fetch(form.action, { method: "POST", body })));
    });
    await guess();
  }
  expect(await told(), "guessing is not slowed down");
  await page.context().close();
}

async function takeover() {
  const page = await open();
  await logIn(page, ACTIVE);
  // It is known by the time of one of the next pages.
  for (let turn = 0; turn < 120 && !(await page.$("#lost a")); turn += 1) {
    await page.waitForTimeout(1000);
    await page.reload();
  }
  page.isLeft = true;
  process.kill(Number(ACTIVE_PID), "SIGKILL");
  await page.waitForSelector("#lost:not([hidden])");
  await page.click("#lost a");
  await page.waitForSelector("h1.sentence");
  expect(page.url().startsWith(STANDBY), `it leads to ${page.url()}`);
  await page.waitForSelector("h1.sentence:has-text('Serving since')");
  await page.context().close();
}

// In this order: verbs change what pages show, and the takeover ends a server.
const parts = {
  pages: () => everyPage(STANDBY),
  "without-scripts": () => withoutScripts(STANDBY),
  keyboard: () => keyboard(ACTIVE),
  questions: () => questions(STANDBY),
  live: () => liveFigures(ACTIVE),
  focus: () => focus(STANDBY),
  verbs: () => verbs(STANDBY),
  mishaps: () => mishaps(STANDBY),
  // Its address has to wait for a minute then, and the others have logged in before.
  "refused-and-limited": () => refusedAndLimited(STANDBY),
  takeover,
};
const wanted = process.argv.slice(2);

try {
  for (const [name, part] of Object.entries(parts)) {
    if (wanted.length === 0 || wanted.includes(name)) await part();
  }
} catch (error) {
  complain(error.stack);
}
await browser.close();
process.exit(wrong === 0 ? 0 : 1);
