/** `oak login`, `oak logout` */
import { removeCredentials } from "../credentials.ts";
import type { Edge } from "../edge.ts";
import { openApi } from "../lookup.ts";

export async function login(
  edge: Edge,
  server: string | undefined,
  options: { user: string; passwordStdin?: boolean },
): Promise<void> {
  const api = await openApi(edge, server === undefined ? {} : { server });
  await api.logIn(options.user, await readPassword(edge, options, `Password of ${options.user} at ${api.server}: `));
  edge.terminal.err(`logged in to ${api.server} as ${options.user}\n`);
}

export async function logout(edge: Edge): Promise<void> {
  await removeCredentials(edge.credentialsPath);
  edge.terminal.err("logged out\n");
}

/** Never from the arguments: those stand in the process list and in the shell's history. */
export async function readPassword(
  edge: Edge,
  { passwordStdin }: { passwordStdin?: boolean },
  prompt: string,
): Promise<string> {
  const typed = passwordStdin ? await edge.terminal.readInput() : await edge.terminal.readSecret(prompt);
  return typed.replace(/\r?\n$/, "");
}
