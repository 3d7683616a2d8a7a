/** What a host of the lab runs: settings of its role, and a script that starts everything and keeps it running. Pure. */
import { type HostPlan, type LabPlan, PORTS } from "./plan.ts";

export interface HostFiles {
  /** Path below the host's folder → content. */
  readonly [path: string]: string;
}

/** Where a role finds the token it joins with, below its host's folder. */
export const JOIN_TOKEN = "join-token";
export const LOGS = "log";

/** @param folder of the host, as it sees it itself */
export function hostFiles(plan: LabPlan, host: HostPlan, folder: string): HostFiles {
  const { role } = host.host;
  const services = [
    ...(role === "worker" ? [["containerd", `containerd --log-level warn --config ${folder}/containerd.toml`]] : []),
    ...(role === "none" ? [] : [["oak", `oak ${role} --config ${folder}/oak.json`]]),
  ];
  return {
    "boot.sh": bootScript(
      services.map(([label, command]) => `keep ${label} ${command} &`),
      folder,
    ),
    ...(role === "worker" ? { "containerd.toml": CONTAINERD } : {}),
    ...(role === "none" ? {} : { "oak.json": `${JSON.stringify(roleSettings(plan, host, folder), null, 2)}\n` }),
  };
}

/** What the lab decides goes before what the topology says. */
function roleSettings(plan: LabPlan, { host }: HostPlan, folder: string): Record<string, unknown> {
  const addressOf = (matches: (other: HostPlan) => boolean) => plan.hosts.find(matches)!.address;
  const common = { logFormat: "text", ...host.settings };
  switch (host.role) {
    case "root":
      return { ...common, host: "0.0.0.0" };
    case "cluster": {
      const root = addressOf((other) => other.host.role === "root");
      const name = { name: host.name };
      return {
        ...name,
        ...common,
        host: "0.0.0.0",
        root: url(root, PORTS.root),
        joinTokenFile: `${folder}/${JOIN_TOKEN}`,
      };
    }
    case "worker": {
      const cluster = addressOf((other) => other.host.name === host.cluster);
      return { ...common, cluster: url(cluster, PORTS.join), joinTokenFile: `${folder}/${JOIN_TOKEN}` };
    }
    case "none":
      return {};
  }
}

const url = (address: string, port: number) => `http://${address}:${port}`;

/** As an init system would: what ends is started again. */
function bootScript(services: readonly string[], folder: string): string {
  return `#!/bin/sh
# What this host runs.
mkdir -p ${folder}/${LOGS}
keep() {
  label=$1
  shift
  while :; do
    "$@" >>${folder}/${LOGS}/"$label".log 2>&1
    sleep 1
  done
}
${services.join("\n")}
wait
`;
}

/** Sandboxes are ours, so its CRI plugin would only cost memory. */
const CONTAINERD = `version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
`;
