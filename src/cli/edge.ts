/** What the program's edge hands to the commands: they touch neither process, environment nor clock themselves. */
import type { Clock } from "../base/clock.ts";
import type { Settings } from "../base/settings.ts";
import type { Format } from "./output-format.ts";
import type { Terminal } from "./terminal.ts";

export const ROLES = ["up", "root", "cluster", "worker"] as const;
export type RoleName = (typeof ROLES)[number];

export interface Edge {
  readonly version: string;
  readonly terminal: Terminal;
  readonly clock: Clock;
  /** Aborts at Ctrl-C. */
  readonly signal: AbortSignal;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly credentialsPath: string;
  /** Names the process of the `oak up` that runs here. */
  readonly pidFile: string;
  /** The role's table of settings, from which its flags are made. */
  roleSettings(role: RoleName): Promise<Settings>;
  runRole(role: RoleName, flags: RoleFlags): Promise<void>;
  kill(pid: number, signal: "SIGTERM" | "SIGKILL"): void;
  /** Removes every instance of this machine with its network; resolves with their number. */
  purge(options: DownOptions): Promise<number>;
  /** The local runtime's image store; needs root. */
  images(socket: string): Promise<ImageTool>;
  labs(): Promise<LabTools>;
  /** Gives an Admin of the root in that state folder a new password; no root need run. */
  resetAdmin(stateDir: string): Promise<{ readonly username: string; readonly password: string }>;
  /** Becomes another program, which takes over terminal, signals and exit code. */
  become(file: string, args: readonly string[]): never;
}

/** Values of the role's settings as they were typed, and what concerns only this start. */
export interface RoleFlags {
  readonly settings: Readonly<Record<string, unknown>>;
  readonly config?: string | undefined;
  readonly detach?: boolean | undefined;
}

export interface DownOptions {
  /** Removes instances, sandboxes and packet rules as well. */
  readonly purge?: true;
  /** With `purge`: removes the state folder too. */
  readonly state?: true;
  readonly stateDir: string;
  readonly containerdSocket: string;
  /** Seconds until the process is killed. */
  readonly timeout: number;
}

export interface LocalImage {
  readonly name: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly platforms: readonly string[];
}

export interface ImageTool {
  build(file: string, signal: AbortSignal): Promise<readonly LocalImage[]>;
  load(path: string, signal: AbortSignal): Promise<readonly LocalImage[]>;
  list(signal: AbortSignal): Promise<readonly LocalImage[]>;
  remove(reference: string, signal: AbortSignal): Promise<void>;
  close(): void;
}

export interface LabTools {
  open(options: { readonly name: string; readonly stateDir: string }): LabTool;
  /** Carries the slow links of a lab, by the file that the lab wrote. */
  carry(file: string, onReady: () => void, signal: AbortSignal): Promise<void>;
}

export interface LabTool {
  up(options: LabUpOptions, signal: AbortSignal): Promise<LabStatus>;
  /** True when there was something. */
  down(): Promise<boolean>;
  status(): Promise<LabStatus>;
  cut(cut: LabCut): Promise<void>;
  heal(cut?: LabCut): Promise<void>;
  kill(host: string): Promise<void>;
  start(host: string, signal: AbortSignal): Promise<void>;
  /** Program and arguments that run `args` on the host. */
  command(host: string, args: readonly string[]): Promise<[string, string[]]>;
  logs(host: string): Promise<readonly string[]>;
}

export interface LabUpOptions {
  readonly clusters: number;
  readonly workers: number;
  readonly delay?: string;
  readonly loss?: string;
  readonly nat?: boolean;
  readonly network?: string;
  readonly topology?: unknown;
}

/** Without `b`: cut off from everything. */
export interface LabCut {
  readonly a: string;
  readonly b?: string | undefined;
}

export interface LabStatus {
  readonly hosts: readonly {
    readonly name: string;
    readonly role: string;
    readonly site: string;
    readonly address: string;
    readonly status: string;
  }[];
  readonly cuts: readonly LabCut[];
  readonly server: string;
  readonly credentials: string;
}

/** Options of every command that talks to a root. */
export interface ClientOptions {
  readonly server?: string;
  readonly output: Format;
}
