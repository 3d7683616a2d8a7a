/** A root's API over real HTTP and a real store, with an orchestration that only remembers what it was asked for. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { createLogger } from "../../src/base/log.ts";
import type { Aggregate } from "../../src/protocol/capacity.ts";
import type { InstanceReport } from "../../src/protocol/instance.ts";
import { createApi } from "../../src/root/api/api.ts";
import { Auth } from "../../src/root/auth/auth.ts";
import { ensureFirstAdmin } from "../../src/root/auth/first-admin.ts";
import { InitialPassword } from "../../src/root/auth/initial-password.ts";
import { Passwords } from "../../src/root/auth/passwords.ts";
import { Changes } from "../../src/root/changes.ts";
import type { Explanation } from "../../src/root/explanations.ts";
import type { Predicted } from "../../src/root/forecasts.ts";
import type { Instance } from "../../src/root/model.ts";
import type { Orchestration } from "../../src/root/orchestration.ts";
import { RegistrySecrets } from "../../src/root/registry-secrets.ts";
import { SqliteRootStore } from "../../src/root/store/sqlite-root-store.ts";
import { HttpServer } from "../../src/transport/http-server.ts";

export const ADMIN = { username: "Admin", password: "Admin" } as const;
export const PASSWORD = "correct horse";

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** Parsed once; the text where that is no JSON. */
  readonly body: unknown;
}

export class StubOrchestration implements Orchestration {
  triggers = 0;
  readonly active = new Set<string>();
  readonly aggregates = new Map<string, Aggregate>();
  readonly reports = new Map<string, InstanceReport>();
  readonly explanations = new Map<string, Explanation>();
  readonly disconnected: string[] = [];
  log: Orchestration["openLog"] = async function* () {};

  trigger(): void {
    this.triggers += 1;
  }
  isActive(clusterId: string): boolean {
    return this.active.has(clusterId);
  }
  aggregateOf(clusterId: string): Aggregate | undefined {
    return this.aggregates.get(clusterId);
  }
  clockOffMs(): number | undefined {
    return undefined;
  }
  heardAt(clusterId: string): number | undefined {
    return this.active.has(clusterId) ? systemClock.now() : undefined;
  }
  reportOf({ id }: { readonly id: string }): InstanceReport | undefined {
    return this.reports.get(id);
  }
  openLog(...request: Parameters<Orchestration["openLog"]>): AsyncIterable<string> {
    return this.log(...request);
  }
  async explain({ id }: Instance): Promise<Explanation> {
    return this.explanations.get(id) ?? { root: { timeline: [], decisions: [] } };
  }
  async predict(): Promise<readonly Predicted[]> {
    return [];
  }
  disconnect(clusterId: string): void {
    this.disconnected.push(clusterId);
  }
}

export interface TestRoot {
  readonly base: string;
  readonly store: SqliteRootStore;
  readonly changes: Changes;
  readonly registrySecrets: RegistrySecrets;
  readonly orchestration: StubOrchestration;
  readonly logLines: readonly string[];
  /** An access token; makes the user first, unless it is the Admin. */
  token(user?: string, roles?: readonly string[]): Promise<string>;
  call(method: string, path: string, options?: { token?: string; body?: unknown; raw?: RequestInit }): Promise<Answer>;
  close(): Promise<void>;
}

export async function startRoot(encoding: "plain" | "atc23" = "plain"): Promise<TestRoot> {
  const folder = mkdtempSync(join(tmpdir(), "oak-root-api-"));
  mkdirSync(join(folder, "swagger-ui"));
  writeFileSync(join(folder, "openapi.json"), JSON.stringify({ openapi: "3.1.0" }));
  writeFileSync(join(folder, "swagger-ui/swagger-ui.css"), "a{}");
  const store = new SqliteRootStore(join(folder, "root.db"));
  const passwords = new Passwords();
  const clock = systemClock;
  const initialPassword = new InitialPassword(join(folder, "initial-admin-password"));
  const auth = new Auth({ store, passwords, clock });
  const changes = new Changes();
  const registrySecrets = new RegistrySecrets(store, async () => Buffer.alloc(32, 7));
  const orchestration = new StubOrchestration();
  const logLines: string[] = [];
  const log = createLogger({ level: "debug", format: "json", now: clock.now, write: (line) => logLines.push(line) });
  const common = { store, auth, passwords, orchestration, changes, registrySecrets, clock, log };
  const { fetch: answer } = createApi({ ...common, version: "1.2.3", encoding, distDir: folder });
  const server = new HttpServer({ host: "127.0.0.1", port: 0, fetch: answer, log });
  await ensureFirstAdmin(store, { passwords, clock, insecureDefault: true, initialPassword });
  const base = `http://127.0.0.1:${(await server.listen()).port}`;

  const call: TestRoot["call"] = async (method, path, { token, body, raw } = {}) => {
    const response = await fetch(base + path, {
      method,
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...raw,
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: parsed(text) };
  };
  const tokens = new Map<string, string>();
  const logIn = async (username: string, password: string) => {
    const { body } = await call("POST", "/api/auth/login", { body: { username, password } });
    return (body as { token: string }).token;
  };
  const token: TestRoot["token"] = async (user = ADMIN.username, roles = []) => {
    const known = tokens.get(user);
    if (known !== undefined) return known;
    if (user !== ADMIN.username) {
      const body = { name: user, password: PASSWORD, email: "", roles: roles.map((name) => ({ name })) };
      await call("POST", "/api/auth/register", { token: await token(), body });
    }
    const made = await logIn(user, user === ADMIN.username ? ADMIN.password : PASSWORD);
    tokens.set(user, made);
    return made;
  };
  return {
    base,
    store,
    changes,
    registrySecrets,
    orchestration,
    logLines,
    token,
    call,
    close: async () => {
      await server.close();
      store.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** An SLA as the 2023 experiments send it. */
export function sla(
  name: string,
  options: { service?: object; application?: object; namespace?: string } = {},
): { sla_version: string; customerID: string; applications: Record<string, unknown>[] } {
  return {
    sla_version: "v2.0",
    customerID: "Admin",
    applications: [
      {
        applicationID: "",
        application_name: name,
        application_namespace: options.namespace ?? "test",
        application_desc: "Test application",
        microservices: [
          {
            microserviceID: "",
            microservice_name: "curl",
            microservice_namespace: "test",
            virtualization: "container",
            cmd: [],
            memory: 50,
            vcpus: 1,
            vgpus: 0,
            vtpus: 0,
            bandwidth_in: 0,
            bandwidth_out: 0,
            storage: 0,
            code: "docker.io/library/nginx:latest",
            state: "",
            port: "6080:80/tcp",
            added_files: [],
            ...options.service,
          },
        ],
        ...options.application,
      },
    ],
  };
}
