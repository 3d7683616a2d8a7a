/**
 * How a worker makes itself known to another one, whose instances it is about to call: the kernel takes overlay packets from known
 * workers only. The one sends who it is (where it can be reached and which addresses its sandboxes have), signed with the key that all
 * workers of the installation have. What is signed may have been recorded: so the other one challenges it to say the same again with a
 * cookie, by which it sees that it is said there and now, and answers once its kernel knows. All is signed, an answer is shorter than
 * what it answers, and nothing unsigned gets one.
 *   introduction   header (8) · nonce (8) · WorkerEndpoint as JSON · HMAC-SHA256 (32)
 *   challenge      header (8) · nonce (8) · cookie (8) · HMAC-SHA256 (32)
 *   proof          header (8) · nonce (8) · cookie (8) · WorkerEndpoint as JSON · HMAC-SHA256 (32)
 *   welcome        header (8) · nonce (8) · HMAC-SHA256 (32)
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { validate } from "../base/validation.ts";
import { WorkerEndpoint } from "../protocol/route.ts";

const MAGIC = Buffer.from("OAKP");
const VERSION = 1;
const KINDS = { introduction: 3, welcome: 4, challenge: 5, proof: 6 } as const;
const HEADER = 8;
const NONCE = 8;
const COOKIE = 8;
const SIGNATURE = 32;
/** One datagram that is not cut on its way; room for sixty subnets. */
const MAX_BYTES = 1400;

export type Introduction =
  | { readonly kind: "introduction"; readonly nonce: string; readonly endpoint: WorkerEndpoint }
  | { readonly kind: "challenge"; readonly nonce: string; readonly cookie: string }
  | { readonly kind: "proof"; readonly nonce: string; readonly cookie: string; readonly endpoint: WorkerEndpoint }
  | { readonly kind: "welcome"; readonly nonce: string };

/** Nonce and cookie are 16 hexadecimal digits each. Undefined: it would be too long. */
export function encodeIntroduction(message: Introduction, key: string): Buffer | undefined {
  const header = Buffer.concat([MAGIC, Buffer.from([VERSION, KINDS[message.kind], 0, 0])]);
  const numbers = Buffer.from(`${message.nonce}${"cookie" in message ? message.cookie : ""}`, "hex");
  const body = "endpoint" in message ? JSON.stringify(message.endpoint) : "";
  const signed = Buffer.concat([header, numbers, Buffer.from(body)]);
  const bytes = Buffer.concat([signed, sign(signed, key)]);
  return bytes.length <= MAX_BYTES ? bytes : undefined;
}

/** Undefined: it is something else, or not signed with the key. */
export function decodeIntroduction(bytes: Buffer, key: string): Introduction | undefined {
  if (bytes.length < HEADER + NONCE + SIGNATURE || bytes.length > MAX_BYTES) return undefined;
  if (!bytes.subarray(0, 4).equals(MAGIC) || bytes[4] !== VERSION) return undefined;
  const signed = bytes.subarray(0, -SIGNATURE);
  if (!timingSafeEqual(sign(signed, key), bytes.subarray(-SIGNATURE))) return undefined;
  const nonce = signed.toString("hex", HEADER, HEADER + NONCE);
  if (bytes[5] === KINDS.welcome) return { kind: "welcome", nonce };
  if (bytes[5] === KINDS.introduction) {
    const endpoint = parse(signed.toString("utf8", HEADER + NONCE));
    return endpoint && { kind: "introduction", nonce, endpoint };
  }
  if (signed.length < HEADER + NONCE + COOKIE) return undefined;
  const cookie = signed.toString("hex", HEADER + NONCE, HEADER + NONCE + COOKIE);
  if (bytes[5] === KINDS.challenge) return { kind: "challenge", nonce, cookie };
  const endpoint = bytes[5] === KINDS.proof ? parse(signed.toString("utf8", HEADER + NONCE + COOKIE)) : undefined;
  return endpoint && { kind: "proof", nonce, cookie, endpoint };
}

function parse(text: string): WorkerEndpoint | undefined {
  try {
    const checked = validate(WorkerEndpoint, JSON.parse(text));
    return checked.ok ? checked.value : undefined;
  } catch {
    return undefined;
  }
}

function sign(bytes: Buffer, key: string): Buffer {
  return createHmac("sha256", key).update(bytes).digest();
}
