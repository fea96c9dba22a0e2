// Videos with the official client for Node against a running server: one JSON line for each check.
// From the environment: BASE_URL, KEY, FOLDER (with frame.png), MODELS as JSON: provider -> model.

import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import OpenAI, { toFile } from "openai";

const { BASE_URL, KEY, FOLDER } = process.env;
const MODELS = JSON.parse(process.env.MODELS);
const FRAME = path.join(FOLDER, "frame.png");

let sent = 0;
const counted = (url, init) => {
  if (String(url).startsWith("http")) sent += 1; // the client first tries its uploads on a data: URL
  return fetch(url, init);
};
const client = new OpenAI({ baseURL: BASE_URL, apiKey: KEY, maxRetries: 0 });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function ended(id) {
  for (;;) {
    const video = await client.videos.retrieve(id);
    if (video.status !== "queued" && video.status !== "in_progress") return video;
    await pause(100);
  }
}

async function make(name, prompt) {
  const begun = await client.videos.create({
    model: MODELS[name], prompt, seconds: "4", size: "1280x720", input_reference: fs.createReadStream(FRAME),
  });
  const video = await ended(begun.id);
  const response = await client.videos.downloadContent(video.id);
  const bytes = Buffer.from(await response.arrayBuffer());
  const part = await client.videos.downloadContent(video.id, {}, { headers: { Range: "bytes=4-19" } });
  const thumbnail = await client.videos.downloadContent(video.id, { variant: "thumbnail" });
  const answer = {
    begun, video, sum: crypto.createHash("sha256").update(bytes).digest("hex"),
    type: response.headers.get("content-type"), part: [part.status, (await part.arrayBuffer()).byteLength],
    thumbnail: thumbnail.headers.get("content-type"),
  };
  await thumbnail.arrayBuffer();
  answer.deleted = await client.videos.delete(video.id);
  answer.gone = await client.videos.retrieve(video.id).then(() => 200, (error) => error.status);
  return answer;
}

async function remix(name, prompt) {
  const first = await ended((await client.videos.create({ model: MODELS[name], prompt, seconds: "4" })).id);
  const second = await ended((await client.videos.remix(first.id, { prompt: "at night" })).id);
  return { first, second };
}

async function pages() {
  const paged = [];
  for await (const video of client.videos.list({ limit: 2 })) paged.push(video.id);
  const whole = await client.videos.list({ limit: 100 });
  return { paged, whole: whole.data.map((video) => video.id) };
}

async function fault() {
  const patient = new OpenAI({ baseURL: BASE_URL, apiKey: KEY, fetch: counted });
  try {
    const input_reference = await toFile(fs.readFileSync(FRAME), "frame.png");
    return await patient.videos.create({ model: MODELS.demo, prompt: "a hill", seconds: "long", input_reference });
  } catch ({ status, code, param }) {
    return { status, code, param, sent };
  }
}

async function checked(check, run) {
  try {
    process.stdout.write(`${JSON.stringify({ check, answer: await run(`check ${check}`) })}\n`);
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ check, error: String(error.stack ?? error) })}\n`);
  }
}

await Promise.all([
  ...Object.keys(MODELS).map((name) => checked(`make: ${name}`, (prompt) => make(name, prompt))),
  ...["shaped", "gemini", "demo"].map((name) => checked(`remix: ${name}`, (prompt) => remix(name, prompt))),
]);
await checked("pages", pages);
await checked("fault", fault);
