// A judge in aimock: its replies are computed from the request, by the rules of litellm_judge.py.
//
// node aimock_judge.mjs NODE_MODULES READY: writes its address into the file READY.

import { appendFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [modules, ready] = process.argv.slice(2);
const { LLMock } = createRequire(join(resolve(modules), "here.js"))("@copilotkit/aimock");
const [GOOD, BAD] = [0.7, 0.3];

const textOf = (messages, role) =>
  messages
    .filter((m) => m.role === role && m.content)
    .map((m) => (typeof m.content === "string" ? m.content : m.content.map((p) => p.text ?? "").join("")))
    .join("\n");

// The member's name and value that the system message asks for.
function verdict(system, share) {
  const score = system.match(/a number from (-?[\d.]*\d) to (-?[\d.]*\d)/);
  const labels = system.match(/one of ((?:(?:, | or |, or )?"[^"]*")+)/);
  if (score) {
    const [low, high] = [Number(score[1]), Number(score[2])];
    return ["score", Number((low + share * (high - low)).toFixed(6))];
  }
  if (labels) {
    const names = [...labels[1].matchAll(/"([^"]*)"/g)].map((m) => m[1]);
    return ["label", share > 0.5 ? names[0] : names.at(-1)];
  }
  return ["verdict", share > 0.5];
}

function reply(request) {
  const system = textOf(request.messages, "system");
  const share = textOf(request.messages, "user").includes("no idea") ? BAD : GOOD;
  const [name, value] = verdict(system, share);
  const reason = `[aimock] The answer ${share > 0.5 ? "serves" : "does not serve"} the customer.`;
  const found = { reason, [name]: value };
  const canary = system.match(/"canary": "([0-9a-f]{6,})"/);
  if (canary) found.canary = canary[1];

  const tools = Boolean(request.tools?.length);
  const line = { judge: "aimock", canary: Boolean(canary), tools };
  appendFileSync(process.env.INTEROP_REQUESTS, JSON.stringify(line) + "\n");
  const usage = { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 };
  if (tools) {
    return { toolCalls: [{ name: request.tools[0].function.name, arguments: JSON.stringify(found) }], usage };
  }
  const lines = [reason, ...(canary ? [canary[0]] : []), `VERDICT: ${value}`];
  return { content: system.includes("VERDICT:") ? lines.join("\n") : JSON.stringify(found), usage };
}

const mock = new LLMock({
  host: "127.0.0.1",
  port: 0,
  logLevel: "warn",
  auth: { apiKeys: [process.env.INTEROP_KEY] },
});
mock.on({ endpoint: "chat" }, reply);
await mock.start();
writeFileSync(ready, mock.url);
