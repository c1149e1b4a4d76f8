/** Sends an adapter in parts. What breaks off continues where the server says it got to. */
import { ApiError, api, errorOf, need, type Schemas, tokenHeader } from "@/api/client";
import type { AdapterFiles } from "@/lib/folder";
import { digestOf } from "./hash";
import { backOff, contentRange, nextPart } from "./plan";
import { recall, recordKey, remember } from "./record";

type Version = Schemas["VersionOut"];
type Upload = Schemas["UploadOut"];

export interface Progress {
  stage: "reading" | "sending" | "waiting" | "checking";
  bytes: number;
}
export interface Order {
  tenant: string;
  name: string;
  alias: string;
  files: AdapterFiles;
  signal: AbortSignal;
  onProgress: (progress: Progress) => void;
  /** Tells the upload's id and where its record lies, for whoever cancels it. */
  onOpen: (id: string, key: string) => void;
}

const TRIES = 8;
/** Why an upload was stopped for good, as the reason of its signal. */
export const CANCELLED = "cancelled";

export async function upload(order: Order): Promise<Version> {
  const { tenant, name, files, signal, onProgress } = order;
  const { weights } = files;
  const sha256 = await digestOf(weights, signal, (bytes) =>
    onProgress({ stage: "reading", bytes }),
  );
  const key = recordKey(tenant, name, sha256);
  let now = await begin(order, key, sha256);
  if (signal.reason === CANCELLED) await cancel(tenant, now.id, key);
  else order.onOpen(now.id, key);
  for (let failures = 0; ; ) {
    signal.throwIfAborted();
    const part = nextPart(now.received, weights.size);
    if (part === null) break;
    try {
      onProgress({ stage: "sending", bytes: now.received });
      now = await sendPart(order, now, part);
      failures = 0;
    } catch (error) {
      if (signal.aborted) throw error;
      if (!passing(error) || failures >= TRIES) {
        // A refused upload is gone on the server.
        if (!passing(error)) localStorage.removeItem(key);
        throw error;
      }
      onProgress({ stage: "waiting", bytes: now.received });
      await pause(backOff(failures++), signal);
      now = await state(tenant, now.id).catch((problem) => {
        if (passing(problem)) return now;
        throw problem;
      });
    }
  }
  onProgress({ stage: "checking", bytes: weights.size });
  const params = { path: { upload_id: now.id }, query: { tenant } };
  try {
    const made = await need(api.POST("/api/v1/uploads/{upload_id}/complete", { params, signal }));
    localStorage.removeItem(key);
    return made;
  } catch (error) {
    if (!passing(error)) localStorage.removeItem(key);
    throw error;
  }
}

export async function cancel(tenant: string, id: string, key: string): Promise<void> {
  localStorage.removeItem(key);
  const params = { path: { upload_id: id }, query: { tenant } };
  await need(api.DELETE("/api/v1/uploads/{upload_id}", { params }));
}

/** Whether trying again may help. */
function passing(error: unknown): boolean {
  if (!(error instanceof ApiError)) return false;
  const { status, code } = error;
  return (
    status === 0 ||
    status >= 500 ||
    status === 429 ||
    code === "wrong_offset" ||
    code === "conflict"
  );
}

async function begin(order: Order, key: string, sha256: string): Promise<Upload> {
  const { tenant, name, alias, files } = order;
  const config = await files.config.text();
  const about = `${alias}\n${config}`;
  const known = recall(localStorage, key, about);
  if (known !== null) {
    try {
      return await state(tenant, known);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
    }
  }
  const body = { name, alias: alias || null, size: files.weights.size, sha256, config };
  const opened = await need(
    api.POST("/api/v1/uploads", { params: { query: { tenant } }, body: body as never }),
  );
  remember(localStorage, key, { id: opened.id, about });
  return opened;
}

function state(tenant: string, id: string): Promise<Upload> {
  const params = { path: { upload_id: id }, query: { tenant } };
  return need(api.GET("/api/v1/uploads/{upload_id}", { params })) as Promise<Upload>;
}

/** Fetch cannot tell how far a part has got, XMLHttpRequest can. */
function sendPart(
  { tenant, files, signal, onProgress }: Order,
  { id }: Upload,
  part: { start: number; end: number },
): Promise<Upload> {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `/api/v1/uploads/${id}?tenant=${encodeURIComponent(tenant)}`);
    for (const [name, value] of Object.entries(tokenHeader()))
      request.setRequestHeader(name, value);
    request.setRequestHeader("content-range", contentRange(part, files.weights.size));
    request.setRequestHeader("content-type", "application/octet-stream");
    const stop = () => request.abort();
    signal.addEventListener("abort", stop);
    request.upload.onprogress = ({ loaded }) =>
      onProgress({ stage: "sending", bytes: part.start + loaded });
    request.onabort = () => failed(new DOMException("Stopped", "AbortError"));
    request.onerror = () =>
      failed(errorOf(0, { detail: "The connection broke off. Continue when it is back." }));
    request.onload = () => {
      let body: unknown = null;
      try {
        body = JSON.parse(request.responseText);
      } catch {}
      if (request.status < 300) done(body as Upload);
      else failed(errorOf(request.status, body));
    };
    request.onloadend = () => signal.removeEventListener("abort", stop);
    request.send(files.weights.slice(part.start, part.end));
  });
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((done, failed) => {
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      failed(new DOMException("Stopped", "AbortError"));
    });
  });
}
