/** `oak user …` */
import * as z from "zod/mini";
import { Anything } from "../documents.ts";
import type { ClientOptions, Edge } from "../edge.ts";
import { openApi } from "../lookup.ts";
import { showRows } from "../output.ts";
import { readPassword } from "./account.ts";

const Role = z.union([z.string(), z.looseObject({ name: z.string() })]);
const Users = z.array(
  z.looseObject({ name: z.string(), email: z.optional(z.string()), roles: z.optional(z.array(Role)) }),
);

export async function list(edge: Edge, options: ClientOptions): Promise<void> {
  showRows(edge.terminal, {
    format: options.output,
    rows: await (await openApi(edge, options)).get(Users, "/api/users/"),
    none: "No user",
    columns: [
      { title: "NAME", value: (user) => user.name },
      { title: "E-MAIL", value: (user) => user.email },
      { title: "ROLES", value: (user) => user.roles?.map((role) => (typeof role === "string" ? role : role.name)) },
    ],
  });
}

export async function add(
  edge: Edge,
  name: string,
  options: Pick<ClientOptions, "server"> & { email: string; role: readonly string[]; passwordStdin?: boolean },
): Promise<void> {
  const api = await openApi(edge, options);
  const password = await readPassword(edge, options, `Password for ${name}: `);
  const roles = options.role.map((role) => ({ name: role, description: role }));
  await api.call(Anything, "POST", "/api/auth/register", { body: { name, email: options.email, password, roles } });
  edge.terminal.err(`user ${name} added\n`);
}

export async function remove(edge: Edge, names: readonly string[], options: ClientOptions): Promise<void> {
  const api = await openApi(edge, options);
  for (const name of names) {
    await api.call(Anything, "DELETE", `/api/user/${encodeURIComponent(name)}`);
    edge.terminal.err(`user ${name} removed\n`);
  }
}

/** On the root's machine, for who cannot log in any more. */
export async function resetAdmin(edge: Edge, { stateDir }: { stateDir: string }): Promise<void> {
  const { username, password } = await edge.resetAdmin(stateDir);
  edge.terminal.err(`New password of ${username}, whose logins have ended:\n`);
  edge.terminal.out(`${password}\n`);
}

/** The caller's own password; from standard input: the old one, then the new one, a line each. */
export async function changePassword(
  edge: Edge,
  options: Pick<ClientOptions, "server"> & { passwordStdin?: boolean },
): Promise<void> {
  const api = await openApi(edge, options);
  const name = api.user ?? "";
  const [oldPassword, newPassword] = options.passwordStdin
    ? (await edge.terminal.readInput()).split(/\r?\n/)
    : [await edge.terminal.readSecret("Old password: "), await edge.terminal.readSecret("New password: ")];
  await api.call(Anything, "POST", `/api/user/${encodeURIComponent(name)}`, { body: { oldPassword, newPassword } });
  await api.logIn(name, newPassword ?? "");
  edge.terminal.err(`password of ${name} changed\n`);
}
