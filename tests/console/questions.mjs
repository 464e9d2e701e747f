// The questions of docs/cookbook.md and the way to each answer from the first page. A step is one click, one text typed and sent with
// Enter, or one choice from a list. `shows` is on the page in the end.
const to = (name) => `nav[aria-label=Pages] a:text-is("${name}")`;
const row = (name) => `#list a:text-is("${name}")`;
const [channels, durables, clients, takeovers] = ["Channels", "Durables", "Clients", "Takeovers"].map(to);
const channel = [channels, row("orders")];
const messages = [...channel, "main a:text-is('Messages')"];
const durable = [durables, row("slow")];

export const answers = {
  "What is the state of everything?": { steps: [], shows: /Serving since .* on .*; a standby is ready/ },
  "Who is active, and since when?": { steps: [], shows: /Term \d+, since 20/ },
  "Who would take over?": { steps: [], shows: /Standby.*waits since 20/s },
  "Why was there a takeover, and what did clients see of it?": { steps: [takeovers], shows: /Clients waited/ },
  "How often was there one lately?": { steps: [takeovers], shows: /Term 1 · 20/ },
  "What is wrong with the active?": { steps: [], shows: /What needs attention|Nothing needs you/ },
  "Which channels are there?": { steps: [channels], shows: /Channel.*orders/s },
  "What does a channel take, and how fast does it grow?": { steps: channel, shows: /Per second, last hour.*On disk, about/s },
  "Which channels are the largest?": { steps: [channels, { choose: "bytes", from: "#sort" }], shows: /Bytes.*orders/s },
  "Who publishes to a channel?": { steps: channel, shows: /Publishers.*worker/s },
  "What did one client publish last?": { steps: [...channel, "[aria-label=Publishers] tr:has-text('worker') td a"], shows: /Payload.*worker/s },
  "What is in a message?": { steps: [...channel, "dl.figures a:text-is('7')"], shows: /Message 7 of orders.*Published.*By/s },
  "What was published since a time?": { steps: [...messages, { type: "1h", into: "#since" }], shows: /Payload.*There are no more/s },
  "How many messages came per hour?": { steps: [...channel, "summary:has-text('hours')"], shows: /The last day.*:00:00: \d/s },
  "Which message has this text?": { steps: [...messages, { type: "<b>", into: "#text" }], shows: /<b>/ },
  "Which messages are about this customer?": { steps: [...messages, { type: "id=5", into: "#json" }], shows: /"id": ?5/ },
  "Are messages missing?": { steps: channel, shows: /Missing in between.*0/s },
  "Which durables are behind, and why?": { steps: [durables], shows: /slow.*waits for acks/s },
  "How far is one durable?": { steps: durable, shows: /acked up to \d+, sent up to \d+/ },
  "Since when has it been behind?": { steps: durable, shows: /Oldest not acked.*20\d\d-/s },
  "What is in flight, and with whom?": { steps: durable, shows: /In flight.*Sequence.*worker/s },
  "Which durables have nobody who reads?": { steps: [durables], shows: /left.*offline/s },
  "Who holds back everything behind it?": { steps: [durables], shows: /stalled/ },
  "Which clients are connected?": { steps: [clients], shows: /kicked.*worker/s },
  "Which clients do not answer?": { steps: [clients], shows: /Missed heartbeats/ },
  "What does a client subscribe to?": { steps: [clients, row("worker")], shows: /orders.*billing/s },
  "Was anything lost in a failover of Postgres?": { steps: [takeovers], shows: /Lost.*nothing/s },
};
