import { isLoopback, ownAddress } from "../base/own-address.ts";
import { HttpClient } from "../transport/http-client.ts";

const ANSWER_MS = 2000;

/**
 * What to tell another machine instead of a URL on loopback: the same with an address of this machine.
 * @param path of the server that answers anybody. @returns whether the server answers there; if not, it listens on loopback only
 */
export async function reachableUrl(
  server: string,
  path: string,
  signal: AbortSignal,
): Promise<{ readonly url: string; readonly answers: boolean }> {
  const url = new URL(server);
  if (!isLoopback(url.hostname.replace(/^\[|\]$/g, ""))) return { url: server, answers: true };
  url.hostname = await ownAddress("127.0.0.1");
  const text = url.href.replace(/\/$/, "");
  try {
    const { status } = await new HttpClient(text).send("GET", path, { signal, timeoutMs: ANSWER_MS });
    return { url: text, answers: status < 400 };
  } catch {
    signal.throwIfAborted();
    return { url: text, answers: false };
  }
}
