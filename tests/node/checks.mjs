// The official client for Node against a running server: one JSON line for each check, which the tests judge.
// From the environment: BASE_URL, ADDRESS, KEY, FOLDER (with a.png, b.jpg, mask.png), PROVIDERS as JSON.

import fs from "node:fs";
import path from "node:path";
import OpenAI, { AzureOpenAI, toFile } from "openai";

const { BASE_URL, ADDRESS, KEY, FOLDER } = process.env;
const PROVIDERS = JSON.parse(process.env.PROVIDERS);
const MODEL = PROVIDERS.openai.generates;
const place = (name) => path.join(FOLDER, name);
const bytes = (name) => fs.readFileSync(place(name));

let sent = 0;
const counted = (url, init) => {
  if (String(url).startsWith("http")) sent += 1; // the client first tries its uploads on a data: URL
  return fetch(url, init);
};
const client = new OpenAI({ baseURL: BASE_URL, apiKey: KEY, maxRetries: 0 });
const patient = new OpenAI({ baseURL: BASE_URL, apiKey: KEY, fetch: counted }); // with its own retries

async function collected(stream) {
  const events = [];
  for await (const event of await stream) events.push(event);
  return { events };
}

async function caught(work) {
  sent = 0;
  try {
    const got = await work();
    return { got: got ?? null };
  } catch (error) {
    const { name, status, code, param, type, requestID, message } = error;
    const known = Object.keys(OpenAI).filter((each) => OpenAI[each]?.prototype && error instanceof OpenAI[each]);
    const retryAfter = error.headers?.get("retry-after") ?? null;
    return { name, status, code, param, type, requestID, message, known, retryAfter, sent };
  }
}

const checks = {
  "generate with nulls": (prompt) =>
    client.images.generate({
      model: MODEL, prompt, n: null, size: null, quality: null, background: null, output_format: null, stream: null,
    }),
  "generate as link": (prompt) => client.images.generate({ model: MODEL, prompt, response_format: "url" }),
  "generate four": (prompt) => client.images.generate({ model: MODEL, prompt, n: 4 }),
  "generate with own fields": (prompt) =>
    client.images.generate({ model: PROVIDERS.gemini.generates, prompt, aspect_ratio: "16:9", output_format: "webp" }),
  "buffer without a type": async (prompt) =>
    client.images.edit({ model: MODEL, prompt, image: await toFile(bytes("a.png"), "a.png") }),
  "buffer without a name": async (prompt) =>
    client.images.edit({ model: MODEL, prompt, image: await toFile(bytes("a.png")) }),
  "typed file": async (prompt) =>
    client.images.edit({ model: MODEL, prompt, image: new File([bytes("a.png")], "图.png", { type: "image/png" }) }),
  "read stream first": (prompt) =>
    client.images.edit({ image: fs.createReadStream(place("a.png")), mask: fs.createReadStream(place("mask.png")), prompt, model: MODEL }),
  "array of one": async (prompt) =>
    client.images.edit({ model: MODEL, prompt, image: [await toFile(bytes("a.png"), "a.png")] }),
  "array of files": async (prompt) =>
    client.images.edit({
      model: MODEL, prompt,
      image: [fs.createReadStream(place("a.png")), await toFile(bytes("b.jpg"), "b.jpg"), await toFile(bytes("a.png"), "c")],
    }),
  "mask": async (prompt) =>
    client.images.edit({
      model: MODEL, prompt, image: await toFile(bytes("a.png"), "a.png"), mask: await toFile(bytes("mask.png"), "m.png"),
      n: 2, output_format: "jpeg", output_compression: 60,
    }),
  "variation": async (prompt) =>
    client.images.createVariation({ model: MODEL, image: fs.createReadStream(place("a.png")), n: 2, response_format: "b64_json" }),
  "legacy": (prompt) =>
    client.images.generate({ model: "dall-e-3", prompt, size: "1792x1024", quality: "hd", style: "vivid" }),
  "with response": async (prompt) => {
    const { data, response, request_id } = await client.images.generate({ model: MODEL, prompt }).withResponse();
    return { ...data, status: response.status, headers: Object.fromEntries(response.headers), request_id };
  },
  "as response": async (prompt) => {
    const response = await client.images.generate({ model: MODEL, prompt }).asResponse();
    return { ...(await response.json()), headers: Object.fromEntries(response.headers) };
  },
  "stream several": (prompt) => collected(client.images.generate({ model: MODEL, prompt, n: 3, stream: true })),
  "stream ends early": async (prompt) => {
    const stream = await client.images.generate({ model: MODEL, prompt, stream: true, partial_images: 3 });
    for await (const event of stream) return { first: event.type };
  },
  "models": async () => {
    const page = await client.models.list();
    const ids = [];
    for await (const model of page) ids.push(model.id);
    return { ids };
  },
  "model": async () => client.models.retrieve(PROVIDERS.openrouter.generates),
  "alias": async () => client.models.retrieve("house style"),
  "azure generate": (prompt) => azure.images.generate({ model: MODEL, prompt }),
  "azure edit": async (prompt) =>
    azure.images.edit({ model: MODEL, prompt, image: await toFile(bytes("a.png"), "a.png") }),
  "azure edit of a stream": async (prompt) =>
    azure.images.edit({ image: [fs.createReadStream(place("a.png"))], model: MODEL, prompt }),
};
const azure = new AzureOpenAI({ endpoint: ADDRESS, apiKey: KEY, apiVersion: "2025-04-01-preview", maxRetries: 0 });

const faults = {
  "refusal": () => patient.images.generate({ model: MODEL, prompt: "refuse me" }),
  "refusal of a stream": () => patient.images.generate({ model: MODEL, prompt: "refuse me", stream: true }),
  "refusal of an edit": async () =>
    patient.images.edit({ model: MODEL, prompt: "refuse me", image: await toFile(bytes("a.png"), "a.png") }),
  "rate limit": () => client.images.generate({ model: PROVIDERS.gemini.generates, prompt: "rate limit me" }),
  "server error": () => client.images.generate({ model: MODEL, prompt: "fail me" }),
  "emptiness": () => patient.images.generate({ model: MODEL, prompt: "empty please" }),
  "unknown model": () => patient.images.generate({ model: "gpt-image-99", prompt: "a cat" }),
  "no prompt": () => patient.images.generate({ model: MODEL }),
  "bad n": () => patient.images.generate({ model: MODEL, prompt: "a cat", n: 0 }),
  "unknown field": () => patient.images.generate({ model: MODEL, prompt: "a cat", colour: "red" }),
  "bad n in a form": async () =>
    patient.images.edit({ model: MODEL, prompt: "a cat", n: "two", image: await toFile(bytes("a.png"), "a.png") }),
  "no picture": async () =>
    patient.images.edit({ model: MODEL, prompt: "a cat", image: await toFile(Buffer.from("text"), "a.png") }),
  "stream breaks": () =>
    collected(client.images.generate({ model: MODEL, prompt: "fail midway", stream: true, partial_images: 2 })),
  "wrong key": () =>
    new OpenAI({ baseURL: BASE_URL, apiKey: "sk-nobody-knows-this" }).images.generate({ model: MODEL, prompt: "a cat" }),
  "wrong key with a large upload": async () =>
    new OpenAI({ baseURL: BASE_URL, apiKey: "nobody", maxRetries: 0 }).images.edit({
      model: MODEL, prompt: "a cat", image: await toFile(Buffer.alloc(40 << 20), "a.png"),
    }),
  "wrong key of ours": () => client.images.generate({ model: "wrong-openai/gpt-image-2", prompt: "a cat" }),
  "unknown model by id": () => client.models.retrieve("nobody/gpt-image-2"),
};

const tell = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

async function checked(check, run) {
  try {
    const answer = await run(`check <${check}>`);
    tell({ check, answer, requestId: answer._request_id ?? null });
  } catch (error) {
    tell({ check, error: String(error.stack ?? error) });
  }
}

for (const [check, run] of Object.entries(checks)) await checked(check, run);
for (const [check, work] of Object.entries(faults)) tell({ check, fault: await caught(work) });

async function every([name, { generates, edits }]) {
  await checked(`generate: ${name}`, (prompt) => client.images.generate({ model: generates, prompt }));
  await checked(`stream: ${name}`, (prompt) =>
    collected(client.images.generate({ model: generates, prompt, stream: true, partial_images: 2 })));
  if (!edits) return;
  await checked(`edit: ${name}`, async (prompt) =>
    client.images.edit({ model: edits, prompt, image: await toFile(bytes("a.png"), "a.png") }));
  await checked(`stream edit: ${name}`, (prompt) =>
    collected(client.images.edit({ model: edits, prompt, image: fs.createReadStream(place("a.png")), stream: true })));
}

await Promise.all(Object.entries(PROVIDERS).map(every)); // most of their time is a pause between two polls
