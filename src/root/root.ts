/** The root, wired: every part and every loop of it is named here. */
import { createHmac, randomBytes } from "node:crypto";
import { join } from "node:path";
import { addressPlan } from "../addressing/address-plan.ts";
import { readFileIfAny, writeFileAtomic } from "../base/atomic-file.ts";
import { type Clock, steady } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { runTogether } from "../base/task-group.ts";
import { HttpServer } from "../transport/http-server.ts";
import { PlacementVoter } from "../transport/placement-voter.ts";
import { createApi, distDirectory } from "./api/api.ts";
import { Auth } from "./auth/auth.ts";
import { ensureFirstAdmin, FIRST_ADMIN } from "./auth/first-admin.ts";
import { INITIAL_PASSWORD_FILE, InitialPassword } from "./auth/initial-password.ts";
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
  /** Folder of the file with the first user's password, until that is changed; default: the state folder. */
  readonly passwordDir?: string;
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
  /** The file that holds the password too. */
  readonly passwordPath: string;
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
      return (await issueClusterToken(parts.store, parts.tokenClock)).token;
    },
  };
}

/** Who works with whom; nothing starts here. */
function assemble(settings: RootSettings, { log, clock, version = "development", passwordDir }: RootDeps) {
  const { stateDir, host, port, strategy, placementPlugin, apiEncoding: encoding } = settings;
  const store = new SqliteRootStore(join(stateDir, "root.db"), clock, addressPlan(settings));
  const changes = new Changes();
  const passwords = new Passwords();
  const initialPassword = new InitialPassword(join(passwordDir ?? stateDir, INITIAL_PASSWORD_FILE));
  const onPasswordChanged = async (username: string) => {
    if (username === FIRST_ADMIN) await initialPassword.remove().catch(keepsFile);
  };
  const keepsFile = (error: unknown) => log.warn({ error, path: initialPassword.path }, "old password not removed");
  const auth = new Auth({ store, passwords, clock, onPasswordChanged });
  let key: Promise<Uint8Array> | undefined;
  const secretKey = () => {
    // One for all that ask while it is made; a failed try is not kept.
    key ??= ownKey(join(stateDir, "key")).catch((error: unknown) => {
      key = undefined;
      throw error;
    });
    return key;
  };
  const registrySecrets = new RegistrySecrets(store, secretKey);
  const overlayKey = async () =>
    createHmac("sha256", await secretKey())
      .update("overlay")
      .digest("base64url");
  // A machine without a battery for its clock sets it while a token waits: that must not end the token.
  const tokenClock = steady(clock);
  const common = { store, changes, registrySecrets, log, clock, tokenClock };
  const voter = placementPlugin === undefined ? undefined : new PlacementVoter(placementPlugin, { log, clock });
  const { orchestration, loops, accept } = createOrchestration({ ...common, overlayKey, strategy, voter });
  const distDir = distDirectory();
  const { fetch } = createApi({ ...common, auth, passwords, orchestration, version, encoding, distDir });
  const server = new HttpServer({ host, port, fetch, log, onUpgrade: accept });
  return { store, passwords, initialPassword, server, voter, loops, tokenClock };
}

async function runRoot(
  { store, passwords, initialPassword, server, voter, loops }: ReturnType<typeof assemble>,
  { host, insecureDefaultAdmin }: RootSettings,
  { log, clock }: RootDeps,
  told: {
    readonly listening: PromiseWithResolvers<{ port: number }>;
    readonly initialAdmin: PromiseWithResolvers<InitialAdmin>;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  try {
    const insecureDefault = insecureDefaultAdmin;
    const admin = await ensureFirstAdmin(store, { passwords, clock, insecureDefault, initialPassword });
    told.initialAdmin.resolve({ ...admin, passwordPath: initialPassword.path });
    if (insecureDefaultAdmin) {
      log.warn({ host }, "INSECURE: anybody who reaches the API may try Admin/Admin; change it, or drop the setting");
    }
    const { port } = await server.listen();
    log.info({ host, port }, "root is up");
    told.listening.resolve({ port });
    await runTogether(loops, told.signal);
  } finally {
    await server.close();
    voter?.close();
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
