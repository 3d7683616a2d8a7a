/**
 * npm start, after the set-up: containerd, oak up, the example's image, the example; then its answer as proof. Each step does only
 * what is missing, so that a second run takes seconds.
 */
import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { systemClock } from "../src/base/clock.ts";
import { describeError } from "../src/base/errors.ts";
import { exec } from "../src/base/exec.ts";
import { Api } from "../src/cli/api.ts";
import { parseDescriptor } from "../src/cli/descriptor-file.ts";
import { Anything, Applications, instancesOf, type ServiceDocument } from "../src/cli/documents.ts";
import { getService, listApplications, servicesOf } from "../src/cli/lookup.ts";

const repository = dirname(dirname(fileURLToPath(import.meta.url)));
const OAK = join(repository, "bin/oak");
const STATE_DIR = "/var/lib/oakestra";
const PID_FILE = "/run/oakestra/oak.pid";
const CONTAINERD_SOCKET = "/run/containerd/containerd.sock";
const IMAGE = "oakestra.local/hello:latest";
const SLA = "examples/hello/sla.yaml";
const HELLO = "http://127.0.0.1:8080/";
const API = "http://127.0.0.1:10000";
const ADMIN_PASSWORD_FILE = join(STATE_DIR, "initial-admin-password");
const credentialsPath =
  process.env.OAK_CREDENTIALS || join(process.env.XDG_CONFIG_HOME || join(homedir(), ".config"), "oak", "login.json");

process.chdir(repository);
try {
  await step("containerd", ensureContainerd);
  await step("root, cluster and worker", ensureUp);
  await step("login", ensureLogin);
  await step(`image ${IMAGE}`, ensureImage);
  await step(`application ${SLA}`, async (say) => report(await ensureHello(say)));
} catch (error) {
  console.error(`\nnpm start: ${describeError(error)}`);
  process.exit(1);
}

async function step(name: string, work: (say: (text: string) => void) => Promise<string | undefined>): Promise<void> {
  const began = performance.now();
  console.log(`${name} ...`);
  const text = await work((line) => console.log(`  ${line}`));
  if (text !== undefined) console.log(`  ${text} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
}

async function ensureContainerd(): Promise<string> {
  if (await containerdAnswers()) return "runs already";
  const folder = join(STATE_DIR, "containerd");
  const log = join(folder, "containerd.log");
  mkdirSync(folder, { recursive: true, mode: 0o711 });
  writeFileSync(join(folder, "config.toml"), containerdConfig(folder));
  background("containerd", ["--config", join(folder, "config.toml")], log);
  for (let waited = 0; waited < 15_000; waited += 100) {
    await systemClock.sleep(100);
    if (await containerdAnswers()) return `started, with its state in ${folder}`;
  }
  throw new Error(
    `containerd does not answer at ${CONTAINERD_SOCKET}. The end of its log (${log}):\n${lastLines(log, 10)}\nRun it by hand to see more: containerd --config ${folder}/config.toml`,
  );
}

async function containerdAnswers(): Promise<boolean> {
  if (!existsSync(CONTAINERD_SOCKET)) return false;
  try {
    await exec("ctr", ["--address", CONTAINERD_SOCKET, "--connect-timeout", "3s", "version"], { timeoutMs: 5000 });
    return true;
  } catch {
    return false;
  }
}

/** Its own folders, the usual socket. Sandboxes are ours, so its CRI plugin would only cost memory. */
function containerdConfig(folder: string): string {
  return `version = 2
root = "${folder}/root"
state = "/run/oakestra/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]

[grpc]
  address = "${CONTAINERD_SOCKET}"
`;
}

/** Starts a program that outlives this one. */
function background(file: string, args: readonly string[], log: string): void {
  const output = openSync(log, "a", 0o600);
  const child = spawn(file, args, { detached: true, stdio: ["ignore", output, output], cwd: "/" });
  child.on("error", (error) => console.error(`  ${error.message}`));
  child.unref();
  closeSync(output);
}

async function ensureUp(): Promise<string> {
  const isRunning = await apiAnswers();
  const isOld = isRunning && modifiedAt(PID_FILE) < modifiedAt(join(repository, "dist/oak.cjs"));
  if (isRunning && !isOld) return "run already";
  if (isOld) await oak("down");
  console.log(indented(await oak("up", "--detach")));
  return isOld ? "restarted, since the program is newer" : "started";
}

async function apiAnswers(): Promise<boolean> {
  try {
    return (await fetch(`${API}/api/version`, { signal: AbortSignal.timeout(2000) })).ok;
  } catch {
    return false;
  }
}

/** Epoch ms; a file that does not exist counts as new. */
function modifiedAt(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Number.POSITIVE_INFINITY;
}

async function ensureLogin(): Promise<string> {
  try {
    await listApplications(await openApi());
    return "logged in already";
  } catch {
    // No login yet, or one that has expired.
  }
  if (!existsSync(ADMIN_PASSWORD_FILE)) {
    throw new Error(`nobody is logged in, and "${ADMIN_PASSWORD_FILE}" is gone: run "bin/oak login", then this again`);
  }
  await exec(OAK, ["login", API, "--user", "Admin", "--password-stdin"], {
    stdin: readFileSync(ADMIN_PASSWORD_FILE, "utf8"),
  });
  return "logged in as Admin";
}

async function ensureImage(): Promise<string> {
  const images = JSON.parse(await oak("image", "ls", "-o", "json")) as { name: string }[];
  if (images.some(({ name }) => name === IMAGE)) return "is there already";
  await oak("image", "build", "-f", "examples/hello/image.yaml");
  return "built";
}

interface Proof {
  readonly answer: string;
  /** Undefined when it has been running already. */
  readonly ms: number | undefined;
}

async function ensureHello(say: (text: string) => void): Promise<Proof> {
  const api = await openApi();
  const service = (await findHello(api)) ?? (await registerHello(api));
  const isThere = instancesOf(service).some(({ status }) => status !== "UNDEPLOYED");
  say(isThere ? "has an instance already" : "registered; starting an instance");
  const began = performance.now();
  if (!isThere) await api.call(Anything, "POST", `/api/service/${service.microserviceID}/instance`);
  for (let shown = ""; performance.now() - began < 60_000; ) {
    const answer = await ask(HELLO);
    const ms = performance.now() - began;
    // Something else may hold the port, and answer too.
    if (answer !== undefined && (await isRunning(api, service))) return { answer, ms: isThere ? undefined : ms };
    if (ms > 1000) shown = await showProgress(api, service, shown, say);
    await systemClock.sleep(ms < 1000 ? 5 : 500);
  }
  throw new Error(`${HELLO} does not answer. Look with "bin/oak instance ls" and "bin/oak logs hello.web"`);
}

async function isRunning(api: Api, { microserviceID }: ServiceDocument): Promise<boolean> {
  return instancesOf(await getService(api, microserviceID)).some(({ status }) => status === "RUNNING");
}

/** Says what is new; gives up on what will not change by itself. */
async function showProgress(
  api: Api,
  service: ServiceDocument,
  shown: string,
  say: (text: string) => void,
): Promise<string> {
  const instance = instancesOf(await getService(api, service.microserviceID)).at(-1);
  const text = `${instance?.status ?? "no instance"}: ${instance?.status_detail ?? ""}`;
  if (text !== shown) say(text);
  if (instance?.status === "FAILED" || instance?.status === "NoActiveClusterWithCapacity") {
    throw new Error(
      `the example does not run: ${text}\nIf host port 8080 is taken: change it in ${SLA}, then run "bin/oak app rm hello" and npm start again.`,
    );
  }
  return text;
}

async function findHello(api: Api): Promise<ServiceDocument | undefined> {
  const application = (await listApplications(api)).find(
    (one) => one.application_name === "hello" && one.application_namespace === "demo",
  );
  return application && (await servicesOf(api, application.applicationID))[0];
}

async function registerHello(api: Api): Promise<ServiceDocument> {
  const body = parseDescriptor(readFileSync(SLA, "utf8"), SLA);
  await api.call(Applications, "POST", "/api/application/", { body });
  return (await findHello(api))!;
}

/** The body of a good answer; undefined while there is none. */
function ask(url: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const request = get(url, { agent: false, timeout: 2000 }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => (text += chunk));
      response.on("error", () => resolve(undefined));
      response.on("end", () => resolve(response.statusCode === 200 ? text.trim() : undefined));
    });
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve(undefined));
  });
}

function report({ answer, ms }: Proof): undefined {
  const password = existsSync(ADMIN_PASSWORD_FILE)
    ? `Admin, generated password ${readFileSync(ADMIN_PASSWORD_FILE, "utf8").trim()} (${ADMIN_PASSWORD_FILE})`
    : "as you set it";
  console.log(`
The container answers
${answer.replace(/^/gm, "  | ")}
  ${ms === undefined ? "It has been running since an earlier start." : `${Math.round(ms)} ms from the API call to this answer.`}

  The example     ${HELLO}
  API             ${API}
  Documentation   ${API}/api/docs
  User            ${password}

What to type next:
  bin/oak status
  bin/oak logs hello.web
  bin/oak deploy -f examples/ticker/sla.yaml && bin/oak scale ticker 3
  npm stop                                    (instances keep running; bin/oak down --purge removes them)
  docs/getting-started.md                     (the first half hour)`);
}

function openApi(): Promise<Api> {
  return Api.open({ server: API, credentialsPath, signal: AbortSignal.timeout(120_000) });
}

async function oak(...args: string[]): Promise<string> {
  return await exec(OAK, args, { timeoutMs: 120_000 });
}

function indented(text: string): string {
  return text.trimEnd().replace(/^/gm, "  ");
}

function lastLines(path: string, count: number): string {
  return readFileSync(path, "utf8").trimEnd().split("\n").slice(-count).join("\n");
}
