/**
 * Runs a measurement on a lab host: started plainly, an experiment makes the host and starts itself again inside, where the
 * product, `ctr` and the measurement share one machine of their own.
 */
import { resolve } from "node:path";
import { startLabHost } from "../../test/support/lab-host.ts";

const INSIDE = "OAK_EXPERIMENT_INSIDE";

export async function onLabHost(measure: () => Promise<void>): Promise<void> {
  if (process.env[INSIDE] === "yes") {
    await measure();
    // What the product left running ends with the host.
    process.exit();
  }
  const host = await startLabHost({ name: "exp" });
  const onSignal = () => void host.stop().finally(() => process.exit(130));
  process.once("SIGINT", onSignal).once("SIGTERM", onSignal);
  try {
    const args = [
      process.execPath,
      "--disable-warning=ExperimentalWarning",
      resolve(process.argv[1]!),
      ...process.argv.slice(2),
    ];
    const { exitCode } = await host.run(args, { env: { [INSIDE]: "yes" }, show: true, timeoutMs: 3_600_000 });
    process.exitCode = exitCode;
  } finally {
    await host.stop();
  }
}
