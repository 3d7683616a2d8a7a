/**
 * Lets a test file run in network and mount namespaces of its own: it is started again inside, and what it reports there is
 * what the runner sees. When it ends, everything it made in the kernel is gone, whatever happened.
 */
import { spawnSync } from "node:child_process";
import { createServer, type Server } from "node:net";
import { exec } from "../../src/base/exec.ts";

const INSIDE = "OAK_TEST_INSIDE";
export const WORKER_ADDRESS = "198.51.100.1";
export const OUTSIDE_ADDRESS = "198.51.100.2";

/** True inside. Outside it runs the file inside with the same arguments, takes over its exit code, and is false: define no tests then. */
export function isInside(file: string): boolean {
  if (process.env[INSIDE] !== undefined) return true;
  if (process.getuid?.() !== 0) throw new Error("This test needs root: it makes network namespaces");
  const enter = 'mount -t tmpfs none /run && ip link set lo up && exec "$@"';
  const flags = ["--net", "--mount", "--propagation=private", "--", "sh", "-c", enter, "sh"];
  const program = [process.execPath, ...process.execArgv, file, ...process.argv.slice(2)];
  const inside = spawnSync("unshare", [...flags, ...program], {
    stdio: "inherit",
    env: { ...process.env, [INSIDE]: "yes" },
  });
  process.exitCode = inside.status ?? 1;
  return false;
}

/** The world beyond the worker: a namespace "outside", linked by `up0` with an MTU of 1400, where the default route leads. */
export async function makeOutside(): Promise<void> {
  await exec("ip", ["netns", "add", "outside"]);
  await ip(
    "link add up0 mtu 1400 type veth peer name eth0 mtu 1400 netns outside",
    `address add ${WORKER_ADDRESS}/24 dev up0`,
    "link set up0 up",
  );
  const inside = ["link set lo up", `address add ${OUTSIDE_ADDRESS}/24 dev eth0`, "link set eth0 up"];
  await exec("ip", ["-n", "outside", "-batch", "-"], { stdin: inside.join("\n") });
  await ip(`route add default via ${OUTSIDE_ADDRESS}`);
}

export async function ip(...commands: string[]): Promise<void> {
  await exec("ip", ["-batch", "-"], { stdin: `${commands.join("\n")}\n` });
}

/** A server of the worker itself. */
export function listen(port: number, host = "0.0.0.0"): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.on("error", () => {}).end("worker"));
    server.on("error", reject);
    server.listen(port, host, () => resolve(server));
  });
}
