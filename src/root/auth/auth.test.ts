import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { ManualClock } from "../../base/clock.fake.ts";
import { hasCode } from "../../base/errors.ts";
import type { User } from "../model.ts";
import { Auth, maySee, requireRole, requireSelf } from "./auth.ts";
import { ensureFirstAdmin } from "./first-admin.ts";
import { Passwords } from "./passwords.ts";
import { issueToken, LIFETIME_S, verifyToken } from "./tokens.ts";

const clock = new ManualClock();
const signer = { secret: "s".repeat(40), clock };
const user = { name: "ann", roles: ["Admin"] as const, tokenEpoch: 3 };
const issue = (type: "access" | "refresh") => issueToken(signer, user, { type, organization: "0".repeat(24) });
const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
const signed = (header: unknown, payload: string, secret = signer.secret, hash = "sha256") => {
  const text = `${encoded(header)}.${payload}`;
  return `${text}.${createHmac(hash, secret).update(text).digest("base64url")}`;
};

test("a token carries what existing clients read, and lives as long as it says", () => {
  const claims = verifyToken(signer, issue("access"), "access");
  assert.equal(claims.sub, "ann");
  assert.equal(claims.user, "ann");
  assert.deepEqual(claims.roles, ["Admin"]);
  assert.equal(claims.exp - claims.iat, 600);
  assert.equal(LIFETIME_S.refresh, 7 * 24 * 3600);
  assert.notEqual(issue("access"), issue("access"));
});

test("forged, altered and misused tokens are refused", () => {
  const token = issue("access");
  const [header, payload, signature] = token.split(".") as [string, string, string];
  const admin = encoded({ ...JSON.parse(Buffer.from(payload, "base64url").toString()), sub: "Admin" });
  const cases: Record<string, string> = {
    empty: "",
    text: "abc",
    "two parts": `${header}.${payload}`,
    "four parts": `${token}.x`,
    "another payload": `${header}.${admin}.${signature}`,
    "no signature": `${header}.${payload}.`,
    "alg none": `${encoded({ alg: "none", typ: "JWT" })}.${payload}.`,
    "alg none, signed": signed({ alg: "none", typ: "JWT" }, payload),
    "alg HS512": signed({ alg: "HS512", typ: "JWT" }, payload, signer.secret, "sha512"),
    "header in another order": signed({ typ: "JWT", alg: "HS256" }, payload),
    "another secret": signed({ alg: "HS256", typ: "JWT" }, payload, "other"),
    "another installation's": issueToken({ ...signer, secret: "x" }, user, { type: "access", organization: "" }),
    "far too long": `${header}.${"a".repeat(100_000)}.${signature}`,
  };
  for (const [what, forged] of Object.entries(cases))
    assert.throws(
      () => verifyToken(signer, forged, "access"),
      (error) => hasCode(error, "TOKEN_INVALID"),
      what,
    );
  assert.throws(() => verifyToken(signer, issue("refresh"), "access"), /Only access tokens/);
  assert.throws(() => verifyToken(signer, token, "refresh"), /Only refresh tokens are allowed/);
});

test("a token expires to the second, and a clock that was set back a little does not refuse it", async () => {
  const own = new ManualClock();
  const token = issueToken({ ...signer, clock: own }, user, { type: "access", organization: "" });
  const at = (ms: number) => verifyToken({ ...signer, clock: { now: () => own.now() + ms } }, token, "access");
  at(-60_000);
  assert.throws(
    () => at(-70_000),
    (error) => hasCode(error, "TOKEN_INVALID"),
  );
  at(599_000);
  assert.throws(
    () => at(600_000),
    (error) => hasCode(error, "TOKEN_EXPIRED"),
  );
});

test("a root's clock that is set by a year ends the logins, in words that tell the remedy", () => {
  const year = 365 * 86_400_000;
  const own = new ManualClock();
  const token = issueToken({ ...signer, clock: own }, user, { type: "refresh", organization: "" });
  const at = (ms: number) => () => verifyToken({ ...signer, clock: { now: () => own.now() + ms } }, token, "refresh");
  assert.throws(at(year), /expired: refresh it or log in again/);
  assert.throws(at(-year), /not yet valid \(nbf\): the root's clock was set back; log in again/);
});

test("passwords match their own hash only; hashes of one password differ", async () => {
  const passwords = new Passwords();
  const [first, second] = await Promise.all([passwords.hash("köln 1"), passwords.hash("köln 1")]);
  assert.notEqual(first, second);
  assert.match(first, /^scrypt\$14\$8\$5\$/);
  assert.ok(await passwords.matches("ko\u0308ln 1", first), "the same text in another Unicode form");
  assert.ok(!(await passwords.matches("koln 1", first)));
  assert.ok(!(await passwords.matches("", undefined)));
});

function memoryStore(users: User[]) {
  return {
    users: async () => users,
    user: async (name: string) => users.find((one) => one.name === name),
    addUser: async (added: User) => void users.push(added),
    secret: async (_name: string, make: () => string) => make(),
  };
}

test("the first start makes one Admin, with a password that nobody else has; later starts make none", async () => {
  const passwords = new Passwords();
  const users: User[] = [];
  const store = memoryStore(users);
  const kept: [password: string, users: number][] = [];
  const initialPassword = { keep: async (password: string) => void kept.push([password, users.length]) };
  const options = { passwords, clock, insecureDefault: false, initialPassword };
  const first = await ensureFirstAdmin(store, options);
  assert.deepEqual(kept, [[first.password, 0]], "kept before anything else can fail");
  assert.equal(first.username, "Admin");
  assert.ok(first.password !== undefined && first.password.length >= 20);
  assert.ok(await passwords.matches(first.password, users[0]!.passwordHash));
  const second = await ensureFirstAdmin(store, { ...options, insecureDefault: true });
  assert.deepEqual(second, { username: "Admin", password: undefined });
  assert.equal(users.length, 1);
});

test("guessing is slowed down per user and address, also when all guesses come at once", async () => {
  const own = new ManualClock();
  const users: User[] = [];
  const quick = {
    hash: async (password: string) => password,
    matches: async (password: string, stored: string | undefined) => password === stored,
  } as unknown as Passwords;
  const store = memoryStore(users);
  await ensureFirstAdmin(store, {
    ...{ passwords: quick, clock: own, insecureDefault: true },
    initialPassword: { keep: async () => assert.fail("Admin/Admin is no secret") },
  });
  const auth = new Auth({ store, passwords: quick, clock: own });
  const logIn = (password: string, address = "10.0.0.1") =>
    auth.logIn({ username: "Admin", password, organization: "root", address }).then(
      () => "in",
      (error: { code: string }) => error.code,
    );
  const answers = await Promise.all(Array.from({ length: 50 }, (_, number) => logIn(`guess ${number}`)));
  assert.equal(answers.filter((code) => code === "LOGIN_FAILED").length, 10);
  assert.equal(answers.filter((code) => code === "TOO_MANY_LOGINS").length, 40);
  assert.equal(await logIn("Admin"), "TOO_MANY_LOGINS");
  assert.equal(await logIn("Admin", "10.0.0.2"), "in", "its owner elsewhere is not locked out");
  await own.advance(60_000);
  assert.equal(await logIn("Admin"), "in");
});

test("rules of roles and ownership", () => {
  const caller = (name: string, ...roles: ("Admin" | "Application_Provider")[]) => ({
    id: "",
    name,
    roles,
    tokenEpoch: 0,
  });
  const forbidden = (error: unknown) => hasCode(error, "FORBIDDEN");
  requireRole(caller("ann", "Admin"), ["Admin"]);
  assert.throws(() => requireRole(caller("bob", "Application_Provider"), ["Admin"]), forbidden);
  assert.throws(() => requireRole(caller("bob"), ["Admin"]), forbidden);
  requireSelf(caller("bob"), "bob");
  requireSelf(caller("ann", "Admin"), "bob");
  assert.throws(() => requireSelf(caller("bob"), "ann"), forbidden);
  assert.ok(maySee(caller("bob"), { owner: "bob" }) && maySee(caller("ann", "Admin"), { owner: "bob" }));
  assert.ok(!maySee(caller("bob"), { owner: "ann" }));
});
