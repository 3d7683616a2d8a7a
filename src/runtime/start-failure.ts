/** What the OCI runtime's words mean, as one of the port's codes. Pure; the words are runc's and crun's. */
import { AppError } from "../base/errors.ts";

const PATTERNS: readonly (readonly [code: string, pattern: RegExp])[] = [
  [
    "MEMORY_TOO_LOW",
    /memory limit too low|unable to set memory limit|container init (?:process )?was OOM-killed|memory limit .*too (?:low|small)/i,
  ],
  ["IMAGE_PLATFORM", /exec format error/i],
  [
    "COMMAND_NOT_FOUND",
    /executable file .*not found|exec: "[^"]*": (?:stat |permission denied|is a directory|no such file)|exec \S+: (?:no such file|permission denied)|cannot find .* in \$PATH/i,
  ],
];
/** Layers of wrapping that tell nothing. */
const NOISE = [
  /^.*failed to create (?:shim task|shim): /,
  /^OCI runtime (?:create|start) failed: /,
  /^runc create failed: /,
  /^unable to start container process: /,
  /: unknown$/,
];

export function explainStartFailure(containerId: string, error: unknown): AppError {
  const message = error instanceof Error ? error.message : String(error);
  const code = PATTERNS.find(([, pattern]) => pattern.test(message))?.[0] ?? "START_FAILED";
  const reason = NOISE.reduce((text, noise) => text.replace(noise, ""), message);
  return new AppError(code, `Cannot start "${containerId}": ${reason}`, { cause: error });
}
