import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { hasCode } from "./errors.ts";

/**
 * Replaces a file so that a reader, or a power cut, sees the old or the new content, never a mixture.
 * @param mode permission bits of the new file; default 0600, since most of what we keep is private.
 */
export async function writeFileAtomic(path: string, content: string, mode = 0o600): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.new`;
  const file = await open(temporary, "w", mode);
  try {
    // Whatever the umask, and whatever a broken-off write has left there.
    await file.chmod(mode);
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const folder = await open(dirname(path), "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** The file's text, or undefined when there is no such file. */
export async function readFileIfAny(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT")) return undefined;
    throw error;
  }
}
