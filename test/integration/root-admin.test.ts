/** The first user's password: made, kept in a file, changed, and made anew when it is lost. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { resolveSettings } from "../../src/base/settings.ts";
import { resetAdmin } from "../../src/root/auth/reset-admin.ts";
import { createRoot } from "../../src/root/root.ts";
import { ROOT_SETTINGS } from "../../src/root/settings.ts";
import { HttpClient } from "../../src/transport/http-client.ts";

const deps = { log: silentLogger, clock: systemClock };

test("the first password opens the door until it is changed; a lost one is replaced while the root runs, or not", async () => {
  const folder = mkdtempSync(join(tmpdir(), "oak-root-admin-"));
  const flags = { stateDir: join(folder, "root"), port: 0 };
  const { values } = resolveSettings(ROOT_SETTINGS, { environment: {}, flags });
  const root = createRoot(values, { ...deps, passwordDir: folder });
  const stop = new AbortController();
  const ended = root.run(stop.signal);
  try {
    const { passwordPath, ...admin } = await root.initialAdmin;
    const { port } = await root.listening;
    const http = new HttpClient(`http://127.0.0.1:${port}`);
    const logIn = async (password: string) => {
      const body = { username: "Admin", password, organization: "root" };
      const answer = await http.send("POST", "/api/auth/login", { body, signal: stop.signal });
      return answer.status === 200 ? (answer.body as { token: string }).token : undefined;
    };
    assert.equal(passwordPath, join(folder, "initial-admin-password"));
    assert.deepEqual(
      [readFileSync(passwordPath, "utf8").trim(), statSync(passwordPath).mode & 0o777],
      [admin.password, 0o600],
    );
    const token = await logIn(admin.password!);
    const body = { oldPassword: admin.password, newPassword: "another password" };
    await http.send("POST", "/api/user/Admin", { body, token: token!, signal: stop.signal });
    assert.equal(existsSync(passwordPath), false, "it opens nothing any more");
    const replaced = await resetAdmin(folder, systemClock);
    assert.equal(replaced.username, "Admin");
    assert.equal(await logIn("another password"), undefined);
    assert.ok(await logIn(replaced.password));
  } finally {
    stop.abort();
    await ended;
  }
  const { password } = await resetAdmin(join(folder, "root"), systemClock);
  assert.ok(password.length >= 20);
  await assert.rejects(resetAdmin(join(folder, "elsewhere"), systemClock), { code: "FOLDER_UNUSABLE" });
  rmSync(folder, { recursive: true });
});
