/**
 * JSON Web Tokens, HS256 only (RFC 7519, RFC 8725): the header must be, byte for byte, the one that we write, so there is no
 * algorithm to choose and none to be talked into.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import * as z from "zod/mini";
import type { Clock } from "../../base/clock.ts";
import { AppError } from "../../base/errors.ts";
import { secretToken } from "../../base/random.ts";
import { validate } from "../../base/validation.ts";
import type { User } from "../model.ts";

export type TokenType = "access" | "refresh";

export const LIFETIME_S: Readonly<Record<TokenType, number>> = { access: 10 * 60, refresh: 7 * 24 * 3600 };
/** A clock that was set back a little must not lock everybody out. */
const NOT_BEFORE_LEEWAY_S = 60;
const MAX_TOKEN_LENGTH = 4096;
const HEADER = encode(JSON.stringify({ alg: "HS256", typ: "JWT" }));

/** What existing clients read (`sub`, `user`, `roles`, `organization`, `exp`), and the epoch by which tokens are revoked. */
const Claims = z.object({
  sub: z.string(),
  user: z.string(),
  roles: z.array(z.string()),
  organization: z.string(),
  type: z.enum(["access", "refresh"]),
  fresh: z.boolean(),
  jti: z.string(),
  epoch: z.int(),
  iat: z.int(),
  nbf: z.int(),
  exp: z.int(),
});
export type Claims = z.infer<typeof Claims>;

export interface Signer {
  readonly secret: string;
  readonly clock: Pick<Clock, "now">;
}

export function issueToken(
  { secret, clock }: Signer,
  user: Pick<User, "name" | "roles" | "tokenEpoch">,
  { type, organization }: { readonly type: TokenType; readonly organization: string },
): string {
  const now = Math.floor(clock.now() / 1000);
  const claims: Claims = {
    sub: user.name,
    user: user.name,
    roles: [...user.roles],
    organization,
    type,
    fresh: false,
    jti: secretToken(12),
    epoch: user.tokenEpoch,
    iat: now,
    nbf: now,
    exp: now + LIFETIME_S[type],
  };
  const signed = `${HEADER}.${encode(JSON.stringify(claims))}`;
  return `${signed}.${sign(secret, signed).toString("base64url")}`;
}

/** @throws AppError TOKEN_INVALID | TOKEN_EXPIRED; `details.msg` is the wording that existing clients know */
export function verifyToken({ secret, clock }: Signer, token: string, type: TokenType): Claims {
  const [header, payload, signature, ...rest] = token.length > MAX_TOKEN_LENGTH ? [] : token.split(".");
  if (header === undefined || payload === undefined || signature === undefined || rest.length > 0)
    throw invalid("Not enough segments");
  const given = Buffer.from(signature, "base64url");
  const expected = sign(secret, `${header}.${payload}`);
  if (header !== HEADER || given.length !== expected.length || !timingSafeEqual(given, expected))
    throw invalid("Signature verification failed");
  const claims = validate(Claims, JSON.parse(Buffer.from(payload, "base64url").toString("utf8")));
  if (!claims.ok) throw invalid("Missing claim");
  const now = Math.floor(clock.now() / 1000);
  if (claims.value.type !== type) throw invalid(`Only ${type} tokens are allowed`);
  if (now >= claims.value.exp) {
    throw new AppError("TOKEN_EXPIRED", "The token has expired: refresh it or log in again", {
      details: { msg: "Token has expired" },
    });
  }
  if (now + NOT_BEFORE_LEEWAY_S < claims.value.nbf) throw notYetValid();
  return claims.value;
}

function notYetValid(): AppError {
  const msg = "The token is not yet valid (nbf)";
  return new AppError("TOKEN_INVALID", `${msg}: the root's clock was set back; log in again`, { details: { msg } });
}

export function invalid(msg: string): AppError {
  return new AppError("TOKEN_INVALID", `The token is not valid: ${msg}`, { details: { msg } });
}

function sign(secret: string, text: string): Buffer {
  return createHmac("sha256", secret).update(text).digest();
}

function encode(text: string): string {
  return Buffer.from(text).toString("base64url");
}
