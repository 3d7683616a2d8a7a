/**
 * What the OCI runtime is told of a container (https://github.com/opencontainers/runtime-spec). Pure.
 * A container gets what Docker gives by default, not more: its capabilities, its seccomp profile, no new privileges.
 */
import { AppError } from "../base/errors.ts";
import type { ContainerSpec, Limits } from "./container-runtime.ts";
import type { HostFacts } from "./host-facts.ts";
import type { ProcessConfig } from "./oci-image.ts";
import type { UserIds } from "./oci-user.ts";
import { seccompProfile } from "./seccomp.ts";

export interface OciSpecInput {
  readonly spec: ContainerSpec;
  readonly config: ProcessConfig;
  readonly user: UserIds;
  readonly host: HostFacts;
  readonly cgroupsPath: string;
}

const CAPABILITIES = [
  ...["CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP"],
  ...["NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"],
].map((name) => `CAP_${name}`);

const MASKED_PATHS = [
  ...["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list"],
  ...["/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"],
];
const READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const CPU_PERIOD_MICROS = 100_000;
/** The kernel's least quota is 1 ms. */
const MIN_CPU_QUOTA_MICROS = 1000;
const FUSE_DEVICE = { path: "/dev/fuse", type: "c", major: 10, minor: 229, fileMode: 0o666, uid: 0, gid: 0 };
/** containerd's shim starts one process for all containers that carry the same value. */
const SHIM_GROUP = "io.containerd.runc.v2.group";

/** @throws AppError COMMAND_NOT_FOUND when neither the spec nor the image names a command */
export function ociSpec({ spec, config, user, host, cgroupsPath }: OciSpecInput): object {
  const args = spec.command ?? [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])];
  if (args.length === 0)
    throw new AppError("COMMAND_NOT_FOUND", `Cannot start "${spec.containerId}": image "${spec.image}" has no command`);
  const isRoot = user.uid === 0;
  return {
    ociVersion: "1.0.2",
    process: {
      user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids },
      args,
      env: mergeEnvironment([DEFAULT_PATH, ...(config.Env ?? [])], spec.environment),
      cwd: config.WorkingDir || "/",
      capabilities: {
        bounding: CAPABILITIES,
        effective: isRoot ? CAPABILITIES : [],
        permitted: isRoot ? CAPABILITIES : [],
      },
      noNewPrivileges: true,
    },
    root: { path: "rootfs", readonly: false },
    hostname: spec.hostname,
    mounts: mounts(spec),
    annotations: spec.shimGroup === undefined ? {} : { [SHIM_GROUP]: spec.shimGroup },
    linux: {
      cgroupsPath,
      namespaces: namespaces(spec, host),
      resources: resources(spec.limits, spec.fuse === true, host),
      devices: spec.fuse === true ? [FUSE_DEVICE] : [],
      // As with Docker: a service that dropped root may still listen on its usual port; the ports are its own.
      sysctl: host.hasUnprivilegedPorts ? { "net.ipv4.ip_unprivileged_port_start": "0" } : {},
      maskedPaths: MASKED_PATHS,
      readonlyPaths: READONLY_PATHS,
      seccomp: host.hasSeccomp ? seccompProfile(host.architecture) : undefined,
    },
  };
}

/** Later values win, and keep the place of the earlier. */
export function mergeEnvironment(...lists: readonly (readonly string[])[]): string[] {
  const byName = new Map<string, string>();
  for (const entry of lists.flat()) byName.set(entry.split("=", 1)[0]!, entry);
  return [...byName.values()];
}

function mounts({ resolvConf, hostsFile }: ContainerSpec): object[] {
  const mount = (type: string, destination: string, ...options: string[]) => ({
    type,
    destination,
    source: type,
    options: ["nosuid", ...options],
  });
  const readOnlyFile = (destination: string, source: string) => ({
    type: "bind",
    destination,
    source,
    options: ["bind", "ro", "nosuid", "nodev", "noexec"],
  });
  return [
    mount("proc", "/proc", "noexec", "nodev"),
    mount("tmpfs", "/dev", "strictatime", "mode=755", "size=65536k"),
    mount("devpts", "/dev/pts", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    mount("tmpfs", "/dev/shm", "noexec", "nodev", "mode=1777", "size=65536k"),
    mount("mqueue", "/dev/mqueue", "noexec", "nodev"),
    mount("sysfs", "/sys", "noexec", "nodev", "ro"),
    // Language runtimes size themselves by the limits that they read here.
    mount("cgroup", "/sys/fs/cgroup", "noexec", "nodev", "relatime", "ro"),
    ...(resolvConf === undefined ? [] : [readOnlyFile("/etc/resolv.conf", resolvConf)]),
    ...(hostsFile === undefined ? [] : [readOnlyFile("/etc/hosts", hostsFile)]),
  ];
}

function namespaces({ networkNamespace }: ContainerSpec, host: HostFacts): object[] {
  const network = { type: "network", ...(networkNamespace === undefined ? {} : { path: networkNamespace }) };
  const own = ["pid", "ipc", "uts", "mount"].map((type) => ({ type }));
  return [...own, network, ...(host.cgroupVersion === 2 ? [{ type: "cgroup" }] : [])];
}

function resources({ memoryBytes = 0, cpuMillis = 0, pids = 0 }: Limits, fuse: boolean, host: HostFacts): object {
  // Swap counts with memory, so that the limit is one.
  const memory = memoryBytes > 0 ? { limit: memoryBytes, ...(host.hasSwapLimit ? { swap: memoryBytes } : {}) } : {};
  const cpu =
    cpuMillis > 0
      ? {
          quota: Math.max(MIN_CPU_QUOTA_MICROS, Math.round((cpuMillis * CPU_PERIOD_MICROS) / 1000)),
          period: CPU_PERIOD_MICROS,
          shares: Math.max(2, Math.round((cpuMillis * 1024) / 1000)),
        }
      : {};
  const { type, major, minor } = FUSE_DEVICE;
  return {
    // The OCI runtime itself adds null, zero, random and the terminals.
    devices: [{ allow: false, access: "rwm" }, ...(fuse ? [{ allow: true, type, major, minor, access: "rwm" }] : [])],
    memory,
    cpu,
    pids: pids > 0 ? { limit: pids } : undefined,
  };
}
