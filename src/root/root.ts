/** The root, wired: every part and every loop of it is named here. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { addressPlan } from "../addressing/address-plan.ts";
import { readFileIfAny, writeFileAtomic } from "../base/atomic-file.ts";
import type { Clock } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { runTogether } from "../base/task-group.ts";
import { HttpServer } from "../transport/http-server.ts";
import { createApi, distDirectory } from "./api/api.ts";
import { Auth } from "./auth/auth.ts";
import { ensureFirstAdmin } from "./auth/first-admin.ts";
import { issueClusterToken } from "./auth/join-tokens.ts";
import { Passwords } from "./auth/passwords.ts";
import { Changes } from "./changes.ts";
import { createOrchestration } from "./orchestrator.ts";
import { KEY_BYTES, RegistrySecrets } from "./registry-secrets.ts";
import type { RootSettings } from "./settings.ts";
import { SqliteRootStore } from "./store/sqlite-root-store.ts";

export interface RootDeps {
  readonly log: Logger;
  readonly clock: Clock;
  /** Of this program, for clients to see. */
  readonly version?: string;
}

export interface RootRole {
  /** Serves until `signal` aborts. */
  run(signal: AbortSignal): Promise<void>;
  /** Resolves once the API answers. */
  readonly listening: Promise<{ readonly port: number }>;
  /** A token that lets one cluster in, for 15 minutes; waits until the root is there. */
  issueClusterToken(): Promise<string>;
  /** The password only when it was generated at this start. */
  readonly initialAdmin: Promise<InitialAdmin>;
}

interface InitialAdmin {
  readonly username: string;
  readonly password: string | undefined;
}

export function createRoot(settings: RootSettings, deps: RootDeps): RootRole {
  const parts = assemble(settings, deps);
  const listening = Promise.withResolvers<{ port: number }>();
  const initialAdmin = Promise.withResolvers<InitialAdmin>();
  // Who waits for them learns of a failed start; nobody has to.
  for (const { promise } of [listening, initialAdmin]) promise.catch(() => {});
  return {
    run: async (signal) => {
      try {
        await runRoot(parts, settings, deps, { listening, initialAdmin, signal });
      } finally {
        const stopped = new AppError("ROOT_STOPPED", "The root was stopped");
        for (const { reject } of [listening, initialAdmin]) reject(stopped);
      }
    },
    listening: listening.promise,
    initialAdmin: initialAdmin.promise,
    issueClusterToken: async () => {
      await listening.promise;
      return (await issueClusterToken(parts.store, deps.clock)).token;
    },
  };
}

/** Who works with whom; nothing starts here. */
function assemble(settings: RootSettings, { log, clock, version = "development" }: RootDeps) {
  const { stateDir, host, port, strategy, apiEncoding: encoding } = settings;
  const store = new SqliteRootStore(join(stateDir, "root.db"), clock, addressPlan(settings));
  const changes = new Changes();
  const passwords = new Passwords();
  const auth = new Auth({ store, passwords, clock });
  let key: Uint8Array | undefined;
  const registrySecrets = new RegistrySecrets(store, async () => (key ??= await ownKey(join(stateDir, "key"))));
  const common = { store, changes, registrySecrets, log, clock };
  const { orchestration, loops, accept } = createOrchestration({ ...common, strategy });
  const distDir = distDirectory();
  const { fetch } = createApi({ ...common, auth, passwords, orchestration, version, encoding, distDir });
  const server = new HttpServer({ host, port, fetch, log, onUpgrade: accept });
  return { store, passwords, server, loops };
}

async function runRoot(
  { store, passwords, server, loops }: ReturnType<typeof assemble>,
  { host, insecureDefaultAdmin }: RootSettings,
  { log, clock }: RootDeps,
  told: {
    readonly listening: PromiseWithResolvers<{ port: number }>;
    readonly initialAdmin: PromiseWithResolvers<InitialAdmin>;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  try {
    told.initialAdmin.resolve(
      await ensureFirstAdmin(store, { passwords, clock, insecureDefault: insecureDefaultAdmin }),
    );
    if (insecureDefaultAdmin) {
      log.warn({ host }, "INSECURE: anybody who reaches the API may try Admin/Admin; change it, or drop the setting");
    }
    const { port } = await server.listen();
    log.info({ host, port }, "root is up");
    told.listening.resolve({ port });
    await runTogether(loops, told.signal);
  } finally {
    await server.close();
    store.close();
  }
}

/** The key of what is encrypted at rest; made at first use, and not kept in the database that it protects. */
async function ownKey(path: string): Promise<Uint8Array> {
  const known = await readFileIfAny(path);
  if (known === undefined) {
    const key = randomBytes(KEY_BYTES);
    await writeFileAtomic(path, `${key.toString("base64")}\n`);
    return key;
  }
  const key = Buffer.from(known.trim(), "base64");
  if (key.length === KEY_BYTES) return key;
  throw new AppError("KEY_INVALID", `"${path}" does not hold a key of ${KEY_BYTES} bytes`);
}
