/** The way back in for who has lost the password, on the root's own machine; a running root takes it at once. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { AppError } from "../../base/errors.ts";
import { SqliteRootStore } from "../store/sqlite-root-store.ts";
import { ensureFirstAdmin, FIRST_ADMIN, generatedPassword } from "./first-admin.ts";
import { INITIAL_PASSWORD_FILE, InitialPassword } from "./initial-password.ts";
import { Passwords } from "./passwords.ts";

/**
 * Gives an Admin a new password, and ends the logins of that user.
 * @param stateDir of `oak up` or of `oak root`. @throws AppError FOLDER_UNUSABLE | STORAGE_FAILED | STORAGE_FULL
 */
export async function resetAdmin(stateDir: string, clock: Clock): Promise<{ username: string; password: string }> {
  const path = [join(stateDir, "root", "root.db"), join(stateDir, "root.db")].find((candidate) =>
    existsSync(candidate),
  );
  if (path === undefined)
    throw new AppError(
      "FOLDER_UNUSABLE",
      `"${stateDir}" is no state folder of a root: there is no root.db that you may see`,
    );
  const passwords = new Passwords();
  const initialPassword = new InitialPassword(join(stateDir, INITIAL_PASSWORD_FILE));
  const store = new SqliteRootStore(path, clock);
  try {
    const first = await ensureFirstAdmin(store, { passwords, clock, insecureDefault: false, initialPassword });
    if (first.password !== undefined) return { username: first.username, password: first.password };
    const admins = (await store.users()).filter(({ roles }) => roles.includes("Admin"));
    const user = admins.find(({ name }) => name === FIRST_ADMIN) ?? admins[0];
    if (!user) throw new AppError("NOT_FOUND", `No user of the root in "${stateDir}" has the role Admin`);
    const password = generatedPassword();
    const passwordHash = await passwords.hash(password);
    await store.updateUser(user.name, { passwordHash, tokenEpoch: user.tokenEpoch + 1 });
    await initialPassword.remove();
    return { username: user.name, password };
  } finally {
    store.close();
  }
}
