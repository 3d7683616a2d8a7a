/** Bad input: each is refused with its own code and message, and nothing is left behind. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ADMIN, sla, startRoot, type TestRoot } from "./root-api-server.ts";

let root: TestRoot;
let token: string;
before(async () => {
  root = await startRoot();
  token = await root.token();
});
after(() => root.close());

interface Refusal {
  readonly error: string;
  readonly message: string;
  readonly msg?: string;
  readonly code?: number;
  readonly status?: string;
  readonly details: Record<string, unknown> & { problems?: { field: string; message: string }[] };
}
const refusal = ({ body }: { body: unknown }) => body as Refusal;
const post = (body: unknown) => root.call("POST", "/api/application", { token, body });
const json = { "content-type": "application/json" };
const postRaw = (body: string, headers: Record<string, string> = json) =>
  root.call("POST", "/api/application", {
    raw: { body, headers: { authorization: `Bearer ${token}`, ...headers } },
  });

async function assertNothingRegistered(): Promise<void> {
  assert.deepEqual(await root.store.applications(), []);
  assert.deepEqual(await root.store.services(), []);
}

test("broken JSON is told with its position, another media type and 10 MB are refused as such", async () => {
  const broken = await postRaw('{"sla_version": "v2.0",\n "applications": [}');
  assert.equal(broken.status, 400);
  assert.equal(refusal(broken).error, "INVALID_JSON");
  assert.equal(refusal(await postRaw('{"a": 1,}')).details.column, 9);
  assert.equal((await postRaw("")).status, 400);
  assert.equal((await postRaw("a: 1", { "content-type": "application/yaml" })).status, 415);
  const large = await postRaw(JSON.stringify(sla("large", { service: { padding: "x".repeat(10_000_000) } })));
  assert.equal(large.status, 413);
  assert.equal(refusal(large).error, "BODY_TOO_LARGE");
  assert.equal(refusal(await postRaw("[".repeat(200_000) + "]".repeat(200_000))).error, "INVALID_BODY");
  await assertNothingRegistered();
});

test("a wrong descriptor is refused with the field that is wrong", async () => {
  const service = "applications[0].microservices[0]";
  const cases: [object, string, RegExp?][] = [
    [sla("x", { service: { memory: -1 } }), `${service}.memory`],
    [sla("x", { service: { memory: 1e18 } }), `${service}.memory`],
    [sla("x", { service: { memory: "50" } }), `${service}.memory`],
    [sla("x", { service: { vcpus: 1.5 } }), `${service}.vcpus`],
    [sla("x", { service: { code: undefined } }), `${service}.code`],
    [sla("x", { service: { code: "" } }), `${service}.code`, /must name an image/],
    [sla("x", { service: { virtualization: undefined } }), `${service}.virtualization`],
    [sla("x", { service: { port: "80:99999" } }), `${service}.port`, /99999/],
    [sla("x", { service: { port: "80;80" } }), `${service}.port`, /mapped twice/],
    [sla("x", { service: { cmd: "sleep 1" } }), `${service}.cmd`],
    [sla("x", { service: { environment: ["A"] } }), `${service}.environment[0]`, /KEY=value/],
    [sla("x", { service: { constraints: [{ type: "nearby" }] } }), `${service}.constraints[0].type`, /use direct/],
    [sla("x", { application: { microservices: undefined } }), "applications[0].microservices"],
    [{ ...sla("x"), sla_version: "v1.0" }, "sla_version", /use "v2.0"/],
    [{ ...sla("x"), applications: [] }, "applications"],
    [{ ...sla("x"), applications: {} }, "applications"],
  ];
  for (const [body, field, message = /./] of cases) {
    const answer = await post(body);
    assert.equal(answer.status, 422, field);
    assert.equal(refusal(answer).error, "INVALID_BODY");
    const problem = refusal(answer).details.problems?.find((one) => one.field === field);
    assert.ok(problem, `${field} in ${JSON.stringify(answer.body)}`);
    assert.match(problem.message, message);
  }
  for (const body of [null, 1, "x", []]) assert.equal((await post(body)).status, 422, JSON.stringify(body));
  await assertNothingRegistered();
});

test("names with anything but letters, digits and inner dashes are refused, and quoted harmlessly", async () => {
  for (const name of [
    "a.b",
    "a/b",
    "a b",
    "../x",
    "a;b",
    "$(id)",
    "`id`",
    "ä",
    "日本",
    "-a",
    "a_b",
    "x".repeat(31),
    "",
    "a\n",
  ]) {
    for (const body of [sla(name), sla("x", { namespace: name }), sla("x", { service: { microservice_name: name } })]) {
      const answer = await post(body);
      assert.equal(answer.status, 422, JSON.stringify(name));
      assert.match(refusal(answer).message, /not a valid name/);
    }
  }
  await assertNothingRegistered();
});

test("several applications are registered together or not at all; the holder of a taken name is named", async () => {
  assert.equal((await post(sla("first"))).status, 200);
  const both = sla("second");
  const body = { ...both, applications: [...both.applications, ...sla("first").applications] };
  const taken = await post(body);
  assert.equal(taken.status, 409);
  assert.equal(refusal(taken).error, "NAME_TAKEN");
  assert.match(JSON.stringify(refusal(taken).details.holder), /first\.test/);
  assert.deepEqual(
    (await root.store.applications()).map(({ name }) => name),
    ["first"],
  );

  const twice = { ...both, applications: [...both.applications, ...both.applications] };
  const same = await post(twice);
  assert.equal(same.status, 409);
  assert.deepEqual(refusal(same).details.holder, { field: "applications[0]" });

  const [service] = sla("third").applications[0]!.microservices as object[];
  const services = await post(sla("third", { application: { microservices: [service, service] } }));
  assert.equal(services.status, 422);
  assert.equal(refusal(services).details.problems?.[0]?.field, "applications[0].microservices[1].microservice_name");

  assert.equal(
    (await post({ ...both, applications: [...both.applications, ...sla("third").applications] })).status,
    200,
  );
  for (const { id } of await root.store.applications()) await root.store.removeApplication(id);
  await assertNothingRegistered();
});

test("service addresses that are malformed, outside the range or taken are refused by field, and nothing is kept", async () => {
  const withAddresses = (name: string, addresses: object) => {
    const [service] = sla(name).applications[0]!.microservices as object[];
    return sla(name, { application: { microservices: [{ ...service, addresses }] } });
  };
  const cases: readonly [object, string][] = [
    [{ rr_ip: "10.30.0.500" }, "applications[0].microservices[0].addresses.rr_ip"],
    [{ closest_ip: "10.18.0.2" }, "addresses.closest_ip"],
  ];
  for (const [addresses, field] of cases) {
    const refused = await post(withAddresses("shop", addresses));
    assert.equal(refused.status, 422);
    assert.equal(refusal(refused).details.problems?.[0]?.field, field);
  }
  await assertNothingRegistered();

  assert.equal((await post(withAddresses("shop", { rr_ip: "10.30.30.30" }))).status, 200);
  const taken = await post(withAddresses("other", { closest_ip: "10.30.30.30" }));
  assert.deepEqual([taken.status, refusal(taken).error], [409, "ADDRESS_TAKEN"]);
  assert.match(JSON.stringify(refusal(taken).details.holder), /"service":"shop\./);
  for (const { id } of await root.store.applications()) await root.store.removeApplication(id);
  await assertNothingRegistered();
});

test("missing, forged and malformed tokens are refused in the words that clients know", async () => {
  const [header, payload, signature] = token.split(".") as [string, string, string];
  const none = Buffer.from('{"alg":"none","typ":"JWT"}').toString("base64url");
  const missing = await root.call("GET", "/api/services/");
  assert.equal(missing.status, 401);
  assert.deepEqual(
    [refusal(missing).error, refusal(missing).message, refusal(missing).msg],
    ["TOKEN_MISSING", "Missing authentication token", "Missing Authorization Header"],
  );
  for (const forged of ["x", "a.b", `${none}.${payload}.`, `${header}.${payload}.${signature.slice(0, -3)}AAA`]) {
    const answer = await root.call("GET", "/api/services/", { token: forged });
    assert.equal(answer.status, 401, forged);
    assert.equal(refusal(answer).error, "TOKEN_INVALID");
  }
  const basic = await root.call("GET", "/api/services/", {
    raw: { headers: { authorization: "Basic QWRtaW46QWRtaW4=" } },
  });
  assert.equal(refusal(basic).error, "TOKEN_MISSING");
});

test("a failed login does not tell whether the user exists; organizations other than root are unknown", async () => {
  const logIn = (body: object) => root.call("POST", "/api/auth/login", { body });
  const wrong = await logIn({ username: "Admin", password: "x" });
  const unknown = await logIn({ username: "nobody", password: "x" });
  assert.equal(wrong.status, 401);
  assert.deepEqual(wrong.body, unknown.body);
  assert.equal((await logIn({ username: "Admin" })).status, 422);
  assert.equal((await logIn({ ...ADMIN, organization_name: "other" })).status, 404);
  assert.equal((await logIn({ ...ADMIN, organization_name: "root" })).status, 200);
});

test("unknown ids, malformed ids, unknown routes and wrong verbs each have their own answer", async () => {
  const id = "0".repeat(24);
  const cases: [string, string, number, string][] = [
    ["GET", `/api/application/${id}`, 404, "NOT_FOUND"],
    ["DELETE", `/api/application/${id}`, 404, "NOT_FOUND"],
    ["GET", `/api/service/${id}`, 404, "NOT_FOUND"],
    ["POST", `/api/service/${id}/instance`, 404, "NOT_FOUND"],
    ["GET", "/api/service/xyz", 400, "INVALID_ID"],
    ["GET", "/api/service/..%2f..%2fetc", 400, "INVALID_ID"],
    ["DELETE", `/api/service/${id}/instance/one`, 400, "INVALID_ID"],
    ["DELETE", `/api/service/${id}/instance/-2`, 400, "INVALID_ID"],
    ["GET", "/api/nothing", 404, "NOT_FOUND"],
    ["GET", "/", 404, "NOT_FOUND"],
    ["GET", "/api/service/%", 404, "NOT_FOUND"],
    ["DELETE", "/api/applications", 405, "METHOD_NOT_ALLOWED"],
    ["PATCH", "/api/application", 405, "METHOD_NOT_ALLOWED"],
    ["DELETE", "/api/user/nobody", 404, "NOT_FOUND"],
  ];
  for (const [method, path, status, error] of cases) {
    const answer = await root.call(method, path, { token });
    assert.equal(answer.status, status, `${method} ${path}`);
    assert.equal(refusal(answer).error, error, `${method} ${path}`);
  }
  const unknown = refusal(await root.call("GET", "/api/nothing"));
  assert.deepEqual([unknown.code, unknown.status], [404, "Not Found"]);
  const verb = await root.call("DELETE", "/api/applications", { token });
  assert.equal(verb.headers.get("allow"), "GET");
  assert.deepEqual([refusal(verb).code, refusal(verb).status], [405, "Method Not Allowed"]);
});

test("a new user must have a sane name, a password of some length and known roles", async () => {
  const user = { name: "new", password: "long enough", email: "", roles: ["Admin"] };
  for (const [change, field] of [
    [{ name: "a b" }, "name"],
    [{ name: "../x" }, "name"],
    [{ password: "short" }, "password"],
    [{ roles: ["root"] }, "roles[0]"],
    [{ roles: "Admin" }, "roles"],
  ] as const) {
    const answer = await root.call("POST", "/api/auth/register", { token, body: { ...user, ...change } });
    assert.equal(answer.status, 422, JSON.stringify(change));
    assert.equal(refusal(answer).details.problems?.[0]?.field, field);
  }
  assert.equal((await root.store.users()).length, 1);
});

test("passwords and tokens never reach the log", () => {
  assert.doesNotMatch(root.logLines.join(""), /scrypt|eyJ|long enough/);
});
