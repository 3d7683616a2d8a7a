/** The API as existing clients use it: the calls of the 2023 experiments, users, clusters, streams, documentation. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { AppError } from "../../src/base/errors.ts";
import { secretDigest } from "../../src/base/random.ts";
import { parseEvents } from "../../src/transport/http-client.ts";
import { ADMIN, PASSWORD, sla, startRoot, type TestRoot } from "./root-api-server.ts";

let root: TestRoot;
let admin: string;
before(async () => {
  root = await startRoot();
  admin = await root.token();
});
after(() => root.close());

type Doc = Record<string, unknown> & { instance_list: Record<string, unknown>[]; microservices: string[] };
const as = <T>(value: unknown): T => value as T;

async function register(name: string, token = admin, options: Parameters<typeof sla>[1] = {}) {
  const answer = await root.call("POST", "/api/application/", { token, body: sla(name, options) });
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  const application = as<Doc[]>(answer.body).find((one) => one.application_name === name)!;
  return { applicationId: as<string>(application.applicationID), serviceId: application.microservices[0]! };
}

for (const encoding of ["plain", "atc23"] as const) {
  test(`the calls of the 2023 experiments work with encoding ${encoding}`, async () => {
    const own = await startRoot(encoding);
    try {
      const decode = (body: unknown): unknown => {
        if (encoding === "plain") return body;
        assert.equal(typeof body, "string", "the scripts decode it a second time");
        return JSON.parse(body as string);
      };
      const login = await own.call("POST", "/api/auth/login", { body: ADMIN });
      assert.deepEqual(Object.keys(login.body as object).sort(), ["refresh_token", "token"]);
      const { token } = login.body as { token: string };

      // Without the slash, as the scripts do; they would follow a redirect, and get none.
      const posted = await own.call("POST", "/api/application", {
        token,
        body: sla("clientsrvr"),
        raw: { redirect: "error" },
      });
      assert.equal(posted.status, 200);
      const application = as<Doc[]>(decode(posted.body)).find((one) => one.application_name === "clientsrvr")!;
      assert.match(as<string>(application.applicationID), /^[0-9a-f]{24}$/);
      assert.deepEqual(application._id, { $oid: application.applicationID });
      assert.equal(application.userId, "Admin");
      const [id] = application.microservices;

      const deployed = await own.call("POST", `/api/service/${id}/instance`, { token });
      assert.equal(deployed.status, 200);
      assert.deepEqual(deployed.body, { message: "ok", instance_number: 0 });
      assert.equal(own.orchestration.triggers, 1);

      const service = as<Doc>(decode((await own.call("GET", `/api/service/${id}`, { token })).body));
      assert.equal(service.microservice_name, "curl");
      assert.equal(service.virtualization, "docker");
      assert.equal(service.job_name, "clientsrvr.test.curl.test");
      assert.equal(service.status, "REQUESTED");
      assert.equal(service.instance_list[0]!.instance_number, 0);
      assert.equal(service.instance_list[0]!.publicip, "");
      assert.deepEqual(service.added_files, [], "unknown keys come back");

      const services = as<Doc[]>(decode((await own.call("GET", "/api/services", { token })).body));
      assert.deepEqual(
        services.map((one) => one.applicationID),
        [application.applicationID],
      );
      assert.equal(as<Doc[]>(decode((await own.call("GET", "/api/applications/", { token })).body)).length, 1);
      const one = await own.call("GET", `/api/application/${application.applicationID}`, { token });
      assert.deepEqual(decode(one.body), application);
      assert.equal((await own.call("GET", `/api/service/${id}/instance/0`, { token })).status, 200);

      assert.equal((await own.call("DELETE", `/api/service/${id}/instance/0`, { token })).status, 200);
      const removed = await own.call("DELETE", `/api/application/${application.applicationID}`, { token });
      assert.deepEqual(removed.body, { message: "Application Deleted" });
      assert.equal((await own.call("GET", `/api/service/${id}`, { token })).status, 404);
      assert.equal(own.orchestration.triggers, 3);
    } finally {
      await own.close();
    }
  });
}

test("instance numbers are never used twice, and -1 withdraws all", async () => {
  const { serviceId } = await register("numbers");
  const path = `/api/service/${serviceId}/instance`;
  for (let i = 0; i < 3; i++) await root.call("POST", path, { token: admin });
  await root.call("DELETE", `${path}/2`, { token: admin });
  assert.equal(
    as<{ instance_number: number }>((await root.call("POST", path, { token: admin })).body).instance_number,
    3,
  );
  assert.equal((await root.call("DELETE", `${path}/-1`, { token: admin })).status, 200);
  const service = as<Doc>((await root.call("GET", `/api/service/${serviceId}`, { token: admin })).body);
  assert.deepEqual(service.instance_list, []);
  assert.equal(service.next_instance_progressive_number, 4);
  assert.equal((await root.call("DELETE", `${path}/2`, { token: admin })).status, 404);
});

test("both spellings of the trailing slash are answered, and foreign pages may ask", async () => {
  for (const path of ["/api/applications", "/api/services", "/api/users", "/api/clusters", "/api/clusters/active"]) {
    for (const spelling of [path, `${path}/`]) {
      const answer = await root.call("GET", spelling, { token: admin, raw: { redirect: "error" } });
      assert.equal(answer.status, 200, spelling);
      assert.equal(answer.headers.get("access-control-allow-origin"), "*");
      assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
    }
  }
  const preflight = await root.call("OPTIONS", "/api/application/");
  assert.equal(preflight.status, 204);
  assert.match(preflight.headers.get("access-control-allow-headers")!, /authorization/);
});

test("services are added to an application, changed and removed", async () => {
  const { applicationId, serviceId } = await register("growing");
  const more = sla("growing", { application: { applicationID: applicationId }, service: { microservice_name: "db" } });
  const added = as<{ job_id: string }>((await root.call("POST", "/api/service/", { token: admin, body: more })).body);
  assert.match(added.job_id, /^[0-9a-f]{24}$/);
  assert.equal((await root.call("POST", "/api/service", { token: admin, body: more })).status, 409);

  const change = { applications: [{ microservices: [{ memory: 70, cmd: ["sleep", "9"] }] }] };
  assert.deepEqual((await root.call("PUT", `/api/service/${serviceId}`, { token: admin, body: change })).body, {});
  const list = as<Doc[]>((await root.call("GET", `/api/services/${applicationId}`, { token: admin })).body);
  assert.deepEqual(
    list.map(({ microservice_name, memory }) => [microservice_name, memory]),
    [
      ["curl", 70],
      ["db", 50],
    ],
  );
  assert.equal(list[0]!.code, "docker.io/library/nginx:latest", "what was not sent stays");
  // The dashboard sends the whole document back.
  await root.call("PUT", `/api/service/${serviceId}`, {
    token: admin,
    body: { applications: [{ microservices: [{ ...list[0], memory: 71 }] }] },
  });
  const kept = await root.store.service(serviceId);
  assert.equal(kept!.descriptor.memory, 71);
  assert.ok(!("instance_list" in kept!.descriptor) && !("job_name" in kept!.descriptor));

  assert.equal((await root.call("DELETE", `/api/service/${added.job_id}`, { token: admin })).status, 200);
  const renamed = await root.call("PUT", `/api/application/${applicationId}`, {
    token: admin,
    body: { application_desc: "new" },
  });
  assert.deepEqual(renamed.body, { message: "Application is updated" });
  const application = as<Doc>((await root.call("GET", `/api/application/${applicationId}`, { token: admin })).body);
  assert.equal(application.application_desc, "new");
  assert.equal(application.application_name, "growing");
  assert.deepEqual(application.microservices, [serviceId]);
});

test("a constraint without effect is warned of, in a header and in the service's document", async () => {
  const body = sla("warned", { service: { constraints: [{ type: "addons", needs: ["gpu-driver"] }] } });
  const answer = await root.call("POST", "/api/application", { token: admin, body });
  assert.match(answer.headers.get("warning")!, /299 oakestra "curl: constraint \\"addons\\" is kept/);
  const id = as<Doc[]>(answer.body).find((one) => one.application_name === "warned")!.microservices[0];
  const service = as<Doc>((await root.call("GET", `/api/service/${id}`, { token: admin })).body);
  assert.match(String(service.warnings), /addons/);
});

test("a user's own things are his alone; an Admin sees all", async () => {
  const ann = await root.token("ann", ["Application_Provider"]);
  const bob = await root.token("bob", ["Application_Provider"]);
  const { applicationId, serviceId } = await register("annsapp", ann);
  await root.call("POST", `/api/service/${serviceId}/instance`, { token: ann });
  for (const [method, path, body] of [
    ["GET", `/api/application/${applicationId}`],
    ["PUT", `/api/application/${applicationId}`, {}],
    ["DELETE", `/api/application/${applicationId}`],
    ["GET", `/api/services/${applicationId}`],
    ["GET", `/api/service/${serviceId}`],
    ["PUT", `/api/service/${serviceId}`, { applications: [{ microservices: [{}] }] }],
    ["DELETE", `/api/service/${serviceId}`],
    ["POST", `/api/service/${serviceId}/instance`],
    ["GET", `/api/service/${serviceId}/instance/0`],
    ["DELETE", `/api/service/${serviceId}/instance/0`],
    ["DELETE", `/api/service/${serviceId}/instance/-1`],
    ["GET", `/api/service/${serviceId}/instance/0/logs`],
    ["GET", `/api/service/${serviceId}/events`],
    ["POST", "/api/service", sla("annsapp", { application: { applicationID: applicationId } })],
  ] as const) {
    const answer = await root.call(method, path, { token: bob, ...(body ? { body } : {}) });
    assert.equal(answer.status, 404, `${method} ${path}`);
    assert.equal(as<Doc>(answer.body).error, "NOT_FOUND");
  }
  for (const path of ["/api/applications/", "/api/services/", "/api/users/"])
    assert.equal((await root.call("GET", path, { token: bob })).status, 403, path);
  assert.deepEqual((await root.call("POST", "/api/application", { token: bob, body: sla("bobsapp") })).status, 200);
  assert.equal((await root.call("GET", `/api/service/${serviceId}`, { token: admin })).status, 200);

  const { _id } = as<{ _id: { $oid: string } }>((await root.call("GET", "/api/user/ann", { token: ann })).body);
  const own = as<Doc[]>((await root.call("GET", `/api/applications/${_id.$oid}`, { token: ann })).body);
  assert.deepEqual(
    own.map((one) => one.application_name),
    ["annsapp"],
  );
  assert.equal((await root.call("GET", `/api/applications/${_id.$oid}`, { token: bob })).status, 403);
});

test("users are managed by Admins; hashes stay inside; the last Admin stays", async () => {
  const carl = await root.token("carl", ["Application_Provider"]);
  const shown = await root.call("GET", "/api/user/carl", { token: carl });
  assert.deepEqual(as<Doc>(shown.body).roles, ["Application_Provider"]);
  assert.doesNotMatch(
    JSON.stringify((await root.call("GET", "/api/users", { token: admin })).body),
    /scrypt|password/i,
  );
  assert.equal((await root.call("GET", "/api/user/Admin", { token: carl })).status, 403);
  assert.deepEqual((await root.call("GET", "/api/permission/carl", { token: carl })).body, {
    roles: ["Application_Provider"],
  });
  const again = { name: "carl", password: PASSWORD, email: "", roles: ["Admin"] };
  assert.equal((await root.call("POST", "/api/auth/register", { token: admin, body: again })).status, 409);
  assert.equal((await root.call("POST", "/api/auth/register", { token: carl, body: again })).status, 403);
  for (const [method, body] of [
    ["DELETE", undefined],
    ["PUT", { roles: ["Application_Provider"] }],
  ] as const) {
    const answer = await root.call(method, "/api/user/Admin", { token: admin, ...(body ? { body } : {}) });
    assert.equal(answer.status, 409, method);
    assert.match(as<string>(as<Doc>(answer.body).message), /last Admin/);
  }
  assert.equal((await root.call("PUT", "/api/user/carl", { token: admin, body: { roles: ["Admin"] } })).body, "ok");
  const revoked = await root.call("GET", "/api/user/carl", { token: carl });
  assert.equal(revoked.status, 401, "new roles need a new login");
  const remaining = await root.call("DELETE", "/api/user/carl", { token: admin });
  assert.ok(as<Doc[]>(remaining.body).every(({ name }) => name !== "carl"));
  const former = await root.token("olga");
  await root.call("DELETE", "/api/user/olga", { token: admin });
  await root.token("olga");
  const stale = await root.call("GET", "/api/user/olga", { token: former });
  assert.equal(stale.status, 401, "the new user of a name is not opened by the former one's token");
  await register("kept", await root.token("dora"));
  assert.equal((await root.call("DELETE", "/api/user/dora", { token: admin })).status, 409, "she has an application");
});

test("a changed password ends the old logins; refresh tokens make access tokens and nothing else", async () => {
  await root.token("eve");
  const logIn = (password: string) => root.call("POST", "/api/auth/login", { body: { username: "eve", password } });
  const { token, refresh_token } = as<Record<string, string>>((await logIn(PASSWORD)).body);
  const refreshed = await root.call("POST", "/api/auth/refresh", { token: refresh_token! });
  const fresh = as<{ token: string }>(refreshed.body).token;
  assert.equal((await root.call("GET", "/api/user/eve", { token: fresh })).status, 200);
  assert.equal((await root.call("GET", "/api/user/eve", { token: refresh_token! })).status, 401);
  const misused = await root.call("POST", "/api/auth/refresh", { token: token! });
  assert.equal(misused.status, 401);
  assert.equal(as<Doc>(misused.body).msg, "Only refresh tokens are allowed");

  const change = (oldPassword: string, newPassword: string) =>
    root.call("POST", "/api/user/eve", { token: token!, body: { oldPassword, newPassword } });
  assert.match(as<string>(as<Doc>((await change("wrong", "another one")).body).message), /Old password is not valid!/);
  assert.equal((await change(PASSWORD, PASSWORD)).status, 400);
  assert.equal((await change(PASSWORD, "short")).status, 422);
  assert.deepEqual((await change(PASSWORD, "another one")).body, {});
  for (const old of [token!, fresh])
    assert.equal((await root.call("GET", "/api/user/eve", { token: old })).status, 401);
  assert.equal((await root.call("POST", "/api/auth/refresh", { token: refresh_token! })).status, 401);
  assert.equal((await logIn(PASSWORD)).status, 401);
  assert.equal((await logIn("another one")).status, 200);
});

test("clusters join by token, are listed in both spellings, and are removed with their instances taken back", async () => {
  const infra = await root.token("ines", ["Infrastructure_Provider"]);
  const issued = as<{ token: string; expires_at: number }>(
    (await root.call("POST", "/api/cluster/token", { token: infra })).body,
  );
  assert.ok(issued.token.length >= 32 && issued.expires_at > Date.now());
  assert.equal((await root.call("POST", "/api/cluster/token", { token: await root.token("bob") })).status, 403);
  assert.equal((await root.call("GET", "/api/clusters/")).status, 401);
  const cluster = await root.store.admitCluster({
    name: "test",
    location: "48.1,11.6,1000",
    ip: "192.0.2.1",
    keyDigest: secretDigest("k".repeat(40)),
    joinTokenDigest: secretDigest(issued.token),
    now: Date.now(),
  });
  const active = async () => as<Doc[]>((await root.call("GET", "/api/clusters/active", { token: infra })).body);
  assert.deepEqual(await active(), []);
  root.orchestration.active.add(cluster.id);
  const [document] = await active();
  assert.equal(document!._id, cluster.id);
  assert.equal(document!.cluster_name, "test");
  assert.equal(document!.candidate_name, "test");
  assert.equal(document!.active, true);
  assert.equal((await root.call("DELETE", `/api/cluster/${cluster.id}`, { token: infra })).status, 200);
  assert.deepEqual(root.orchestration.disconnected, [cluster.id]);
  assert.equal((await root.call("DELETE", `/api/cluster/${cluster.id}`, { token: infra })).status, 404);
});

test("registry credentials are kept per user and never given back", async () => {
  const body = { name: "lab", server: "registry.lab:5000", username: "u", password: "hunter2-secret" };
  const token = await root.token("ann");
  const stored = await root.call("POST", "/api/registry/", { token, body });
  assert.deepEqual(stored.body, { name: "lab", server: "registry.lab:5000", username: "u" });
  assert.deepEqual((await root.call("GET", "/api/registry", { token })).body, [stored.body]);
  assert.deepEqual((await root.call("GET", "/api/registry", { token: admin })).body, []);
  assert.equal((await root.registrySecrets.credentials("ann", "lab"))?.password, "hunter2-secret");
  assert.equal((await root.call("DELETE", "/api/registry/lab", { token: admin })).status, 404);
  assert.equal((await root.call("DELETE", "/api/registry/lab", { token })).status, 200);
  const wrong = await root.call("POST", "/api/registry", { token, body: { ...body, server: "http://x/y" } });
  assert.equal(wrong.status, 422);
});

test("events tell a service's document at once and at each change, and end when it is removed", async () => {
  const { applicationId, serviceId } = await register("watched");
  const response = await fetch(`${root.base}/api/service/${serviceId}/events`, {
    headers: { authorization: `Bearer ${admin}` },
  });
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  const events = parseEvents(response.body!.pipeThrough(new TextDecoderStream()) as unknown as AsyncIterable<string>);
  const next = async () => {
    const { value, done } = await events.next();
    if (done) return undefined;
    assert.equal(value.event, "service");
    return as<Doc>(JSON.parse(value.data));
  };
  assert.deepEqual((await next())!.instance_list, []);
  await root.call("POST", `/api/service/${serviceId}/instance`, { token: admin });
  assert.equal((await next())!.status, "REQUESTED");
  root.changes.notify([serviceId]); // nothing has changed: nothing is sent
  await root.call("POST", `/api/service/${serviceId}/instance`, { token: admin });
  assert.equal((await next())!.instance_list.length, 2);
  await root.call("DELETE", `/api/application/${applicationId}`, { token: admin });
  assert.equal(await next(), undefined);
});

test("logs are streamed with what was asked for; a failure to begin is an answer", async () => {
  const { serviceId } = await register("logged");
  await root.call("POST", `/api/service/${serviceId}/instance`, { token: admin });
  const path = `/api/service/${serviceId}/instance/0/logs`;
  const asked: unknown[] = [];
  root.orchestration.log = async function* (id, options) {
    asked.push(id, options);
    yield "one\n";
    yield "two\n";
  };
  const answer = await root.call("GET", `${path}?follow=true&tail=7`, { token: admin });
  assert.equal(answer.body, "one\ntwo\n");
  assert.match(answer.headers.get("content-type")!, /^text\/plain/);
  assert.deepEqual(asked, [`${serviceId}-0`, { follow: true, tailLines: 7 }]);
  // biome-ignore lint/correctness/useYield: it fails before its first part
  root.orchestration.log = async function* () {
    throw new AppError("UNAVAILABLE", "its cluster is not connected");
  };
  const failed = await root.call("GET", path, { token: admin });
  assert.equal(failed.status, 503);
  assert.equal(as<Doc>(failed.body).message, "its cluster is not connected");
  assert.equal((await root.call("GET", `${path}?tail=x`, { token: admin })).status, 422);
  assert.equal((await root.call("GET", path.replace("/0/", "/5/"), { token: admin })).status, 404);
});

test("version, health and Swagger UI are open; its page loads nothing from elsewhere", async () => {
  assert.deepEqual((await root.call("GET", "/api/version")).body, { version: "1.2.3", protocol: 1 });
  assert.deepEqual((await root.call("GET", "/api/health")).body, { status: "ok" });
  for (const path of ["/api/docs", "/api/docs/"]) {
    const page = await root.call("GET", path);
    assert.match(page.headers.get("content-type")!, /text\/html/);
    assert.match(page.headers.get("content-security-policy")!, /default-src 'none'; script-src 'self'/);
    assert.doesNotMatch(String(page.body), /https?:/);
  }
  for (const path of ["/api/openapi.json", "/docs/openapi.json"])
    assert.deepEqual((await root.call("GET", path)).body, { openapi: "3.1.0" });
  assert.equal((await root.call("GET", "/api/docs/swagger-ui.css")).headers.get("content-type"), "text/css");
  const unbuilt = await root.call("GET", "/api/docs/swagger-ui-bundle.js");
  assert.equal(unbuilt.status, 503);
  assert.match(as<string>(as<Doc>(unbuilt.body).message), /npm run build/);
});
