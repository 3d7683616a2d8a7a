/** The program's edge: arguments, environment, signals, exit codes. Nothing else of ours touches the process. */
import { closeSync, existsSync, fstatSync, realpathSync, writeSync } from "node:fs";
import { rm } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { deadline, systemClock } from "./base/clock.ts";
import { AppError } from "./base/errors.ts";
import { createLogger, type Logger, type LogLevel } from "./base/log.ts";
import { resolveSettings } from "./base/settings.ts";
import type { DownOptions, Edge, ImageTool, LabTools, RoleFlags, RoleName } from "./cli/edge.ts";
import { endOf } from "./cli/exit-code.ts";
import { createTerminal } from "./cli/terminal.ts";
import type { Role } from "./start-role.ts";

/** Put in by the build. */
declare const OAK_VERSION: string | undefined;

const PID_FILE = "/run/oakestra/oak.pid";
const READY_MS = 60_000;
/** A role that has not stopped by then never will. */
const STOP_MS = 15_000;
/** Given by `oak up --detach`: where to say that everything is ready. Nothing below may inherit it. */
const readyFd = take("OAK_READY_FD");

/** What the edge itself needs of a role's settings. */
interface Common {
  readonly stateDir: string;
  readonly logLevel: LogLevel;
  readonly logFormat: "auto" | "text" | "json";
  readonly host?: string;
}

const stop = new AbortController();
/** A role that was asked to stop and did so has done its work; a command has not. */
let hasServed = false;
let isServing = false;
const terminal = createTerminal({
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  noColour: Boolean(process.env.NO_COLOR) || process.env.TERM === "dumb",
});
const edge: Edge = {
  version: typeof OAK_VERSION === "string" ? OAK_VERSION : "development",
  terminal,
  clock: systemClock,
  signal: stop.signal,
  environment: process.env,
  credentialsPath:
    process.env.OAK_CREDENTIALS || join(process.env.XDG_CONFIG_HOME || join(homedir(), ".config"), "oak", "login.json"),
  pidFile: PID_FILE,
  roleSettings: async (role) => {
    const [{ settingsOf }, { COMMON_SETTINGS }] = await Promise.all([
      import("./start-role.ts"),
      import("./cli/role-settings.ts"),
    ]);
    return { ...(await settingsOf(role)), ...COMMON_SETTINGS };
  },
  runRole,
  kill: (pid, signal) => void process.kill(pid, signal),
  purge,
  images: openImages,
  labs: openLabs,
  resetAdmin: async (stateDir) => (await import("./start-role.ts")).resetAdmin(stateDir, systemClock),
  become,
};

async function main(): Promise<void> {
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, onSignal);
  process.on("unhandledRejection", end);
  // A reader that has seen enough (oak app ls | head) is no failure, and a log that cannot be written stops no role.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => (error.code === "EPIPE" ? process.exit(0) : undefined));
  process.stderr.on("error", () => undefined);
  const { createProgram } = await import("./cli/program.ts");
  await createProgram(edge).parseAsync(process.argv);
}

main().then(() => process.exit(stop.signal.aborted && !hasServed ? 130 : 0), end);

/** The first signal asks, the second one insists. */
function onSignal(): void {
  if (stop.signal.aborted) process.exit(130);
  stop.abort();
  setTimeout(() => {
    terminal.err(`oak: not stopped within ${STOP_MS / 1000} s\n`);
    process.exit(1);
  }, STOP_MS).unref();
}

function end(error: unknown): never {
  const { exitCode, message } = endOf(error, stop.signal.aborted, isServing);
  if (message !== undefined) terminal.err(`${message}\n`);
  process.exit(exitCode);
}

async function runRole(role: RoleName, flags: RoleFlags): Promise<void> {
  const settings = await edge.roleSettings(role);
  const configPath = flags.config ?? process.env.OAK_CONFIG;
  const { readConfig } = await import("./cli/role-settings.ts");
  const file = configPath === undefined ? {} : { file: await readConfig(configPath) };
  const resolved = resolveSettings(settings, { flags: flags.settings, environment: process.env, ...file });
  const values = resolved.values as unknown as Common;
  if (role === "up") await refuseSecond();
  if (flags.detach) return await detach(values.stateDir);
  const { lockFolder } = await import("./base/folder-lock.ts");
  const lock = lockFolder(values.stateDir, process.pid);
  try {
    await serve(role, values);
  } finally {
    lock.release();
  }
}

async function serve(role: RoleName, settings: Common): Promise<void> {
  const log = openLog(settings);
  const { createRole } = await import("./start-role.ts");
  const { removePidFile, writePidFile } = await import("./cli/pid-file.ts");
  log.info({ role, version: edge.version, pid: process.pid, stateDir: settings.stateDir }, "starting");
  const running = await createRole(role, settings, {
    version: edge.version,
    log,
    clock: systemClock,
    // Empty counts as not given: files of variables often hold it so.
    joinToken: take("OAK_JOIN_TOKEN") || undefined,
  });
  if (role === "up") await writePidFile(PID_FILE, process.pid);
  announce(role, running, settings).catch((error: unknown) => {
    if (!stop.signal.aborted) log.warn({ error }, "the start could not be announced");
  });
  isServing = true;
  try {
    await running.run(stop.signal);
  } finally {
    if (role === "up") await removePidFile(PID_FILE);
  }
  hasServed = true;
  log.info({ role }, "stopped");
}

/** Says when everything is ready and, the first time, how to log in: to a person, never to the log. */
async function announce(role: RoleName, running: Role, { host }: Common): Promise<void> {
  const [admin, api] = await Promise.all([running.initialAdmin, running.api, running.ready]);
  let text = `${role === "up" ? "root, cluster and worker are" : `${role} is`} ready\n`;
  if (api) text += `API:           http://${host}:${api.port}\nDocumentation: http://${host}:${api.port}/api/docs\n`;
  if (admin?.password !== undefined) {
    // A journal or a container's log keeps what is printed: only a person at a terminal is told.
    const isRead = readyFd !== undefined || process.stdout.isTTY;
    const password = isRead
      ? `password "${admin.password}" (kept in "${admin.passwordPath}"; `
      : `password in "${admin.passwordPath}" (`;
    text += `First start: user "${admin.username}", ${password}change it: oak user passwd)\n`;
  }
  const problem = running.problem?.();
  if (problem !== undefined) text += `Warning: no instance can be started yet: ${problem}\n`;
  if (readyFd === undefined) return terminal.out(text);
  writeSync(Number(readyFd), text);
  closeSync(Number(readyFd));
}

async function refuseSecond(): Promise<void> {
  const { readPidFile } = await import("./cli/pid-file.ts");
  const pid = await readPidFile(PID_FILE);
  if (pid === undefined) return;
  throw new AppError("ALREADY_RUNNING", `"oak up" runs here already, as process ${pid}; stop it with "oak down"`);
}

async function detach(stateDir: string): Promise<void> {
  const { startInBackground } = await import("./cli/background.ts");
  const args = process.argv.slice(2).filter((argument) => argument !== "--detach" && argument !== "-d");
  terminal.out(
    await startInBackground({
      command: [process.execPath, ...process.execArgv, process.argv[1]!, ...args],
      environment: process.env,
      logPath: join(stateDir, "oak.log"),
      signal: deadline(READY_MS, stop.signal),
    }),
  );
}

async function purge({ containerdSocket, stateDir, state }: DownOptions): Promise<number> {
  const { purgeMachine } = await import("./machine.ts");
  const log = openLog({ stateDir, logLevel: "warn", logFormat: "auto" });
  const settings = { containerdSocket, stateDir: join(stateDir, "worker") };
  const count = await purgeMachine(settings, { log, clock: systemClock }, stop.signal);
  if (state)
    await Promise.all(["root", "cluster", "worker"].map((role) => rm(join(stateDir, role), { recursive: true })));
  return count;
}

async function openImages(socket: string): Promise<ImageTool> {
  const { openImageTool } = await import("./machine.ts");
  return await openImageTool(socket, {
    log: openLog({ stateDir: "", logLevel: "warn", logFormat: "auto" }),
    clock: systemClock,
  });
}

async function openLabs(): Promise<LabTools> {
  const [{ Lab }, { carryFile }] = await Promise.all([import("./lab/lab.ts"), import("./lab/carrier-process.ts")]);
  const folder = dirname(dirname(realpathSync(process.argv[1]!)));
  const program = {
    oak: [join(folder, "bin/oak")] as const,
    folders: [folder, dirname(dirname(process.execPath))],
    node: process.execPath,
  };
  const kill = (pid: number, signal: "SIGKILL") => void process.kill(pid, signal);
  const isRoot = process.getuid?.() === 0;
  return {
    open: (options) => new Lab({ ...options, program, pid: process.pid, isRoot, clock: systemClock, kill }),
    carry: carryFile,
  };
}

function become(file: string, args: readonly string[]): never {
  const path = (process.env.PATH ?? "").split(":").map((folder) => join(folder, file));
  const program = path.find((candidate) => existsSync(candidate));
  if (program) process.execve?.(program, [file, ...args], process.env);
  throw new AppError("EXEC_MISSING", `Cannot run "${file}": no such program`);
}

function openLog({ logLevel, logFormat }: Common): Logger {
  const format = logFormat === "auto" ? (process.stderr.isTTY ? "text" : "json") : logFormat;
  return createLogger({
    level: logLevel,
    format,
    write: fstatSync(2).isFile() ? appendLog : terminal.err,
    now: systemClock.now,
  });
}

/** A stream would end at the first line that a full disk refuses; this loses that line, and goes on when there is room. */
function appendLog(line: string): void {
  try {
    writeSync(2, line);
  } catch {
    // There is no better place to say so.
  }
}

/** Reads a variable and removes it: what runs below must not inherit it. */
function take(name: string): string | undefined {
  const value = process.env[name];
  delete process.env[name];
  return value;
}
