import type { Clock } from "../../base/clock.ts";
import { objectId, secretToken } from "../../base/random.ts";
import type { RootStore } from "../store/root-store.ts";
import type { Passwords } from "./passwords.ts";

const FIRST_ADMIN = "Admin";

/** Makes the first user when there is none. The password is told only when it was made here. */
export async function ensureFirstAdmin(
  store: Pick<RootStore, "users" | "addUser">,
  options: { readonly passwords: Passwords; readonly clock: Clock; readonly insecureDefault: boolean },
): Promise<{ username: string; password: string | undefined }> {
  const users = await store.users();
  if (users.length > 0) {
    return { username: users.find(({ roles }) => roles.includes("Admin"))?.name ?? FIRST_ADMIN, password: undefined };
  }
  const password = options.insecureDefault ? FIRST_ADMIN : secretToken(15);
  await store.addUser({
    id: objectId(),
    name: FIRST_ADMIN,
    email: "",
    passwordHash: await options.passwords.hash(password),
    roles: ["Admin"],
    createdAt: options.clock.now(),
    tokenEpoch: 0,
  });
  return { username: FIRST_ADMIN, password };
}
