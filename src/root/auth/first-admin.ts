import type { Clock } from "../../base/clock.ts";
import { objectId, secretToken } from "../../base/random.ts";
import type { RootStore } from "../store/root-store.ts";
import type { InitialPassword } from "./initial-password.ts";
import type { Passwords } from "./passwords.ts";

export const FIRST_ADMIN = "Admin";

export interface FirstAdminOptions {
  readonly passwords: Passwords;
  readonly clock: Clock;
  /** Makes the password the user's name. */
  readonly insecureDefault: boolean;
  readonly initialPassword: Pick<InitialPassword, "keep">;
}

/** Makes the first user when there is none. The password is told only when it was made here. */
export async function ensureFirstAdmin(
  store: Pick<RootStore, "users" | "addUser">,
  { passwords, clock, insecureDefault, initialPassword }: FirstAdminOptions,
): Promise<{ username: string; password: string | undefined }> {
  const users = await store.users();
  if (users.length > 0) {
    return { username: users.find(({ roles }) => roles.includes("Admin"))?.name ?? FIRST_ADMIN, password: undefined };
  }
  const password = insecureDefault ? FIRST_ADMIN : generatedPassword();
  // Kept first: if the process dies in between, the next start makes another user with another password.
  if (!insecureDefault) await initialPassword.keep(password);
  await store.addUser({
    id: objectId(),
    name: FIRST_ADMIN,
    email: "",
    passwordHash: await passwords.hash(password),
    roles: ["Admin"],
    createdAt: clock.now(),
    tokenEpoch: 0,
  });
  return { username: FIRST_ADMIN, password };
}

export const generatedPassword = (): string => secretToken(15);
