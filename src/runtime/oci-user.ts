/** The user of an image (`1000`, `app`, `app:web`, `1000:web`), looked up in the image's own passwd and group files. Pure. */
import { AppError } from "../base/errors.ts";

export interface UserIds {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
}

/** The files' texts; empty when the image has none. */
export interface UserFiles {
  readonly passwd: string;
  readonly group: string;
}

const ROOT: UserIds = { uid: 0, gid: 0, additionalGids: [] };
const MAX_ID = 2 ** 32 - 2;

/** True when the files of the image are needed to know the ids. */
export function needsLookup(user: string): boolean {
  return !["", "0", "root", "0:0", "root:root"].includes(user) && !/^\d+:\d+$/.test(user);
}

/** @throws AppError START_FAILED for a name that the image does not know */
export function resolveUser(user: string, files: UserFiles): UserIds {
  const [name = "", groupName] = user.split(":", 2);
  if (!needsLookup(user) && groupName === undefined) return ROOT;
  const entry = lines(files.passwd).find(([entryName, , uid]) => entryName === name || uid === name);
  const uid = toId(entry?.[2] ?? (name === "root" ? "0" : name));
  const gid = groupName === undefined ? toId(entry?.[3] ?? "0") : toId(groupId(groupName, files));
  if (uid === undefined || gid === undefined)
    throw new AppError("START_FAILED", `The image's user "${user}" is not in its /etc/passwd or /etc/group`);
  const userName = entry?.[0] ?? name;
  const additionalGids =
    groupName === undefined
      ? lines(files.group).flatMap(([, , id, members = ""]) => {
          const memberOf = toId(id ?? "");
          return memberOf !== undefined && members.split(",").includes(userName) ? [memberOf] : [];
        })
      : [];
  return { uid, gid, additionalGids };
}

function groupId(name: string, files: UserFiles): string {
  const entry = lines(files.group).find(([entryName]) => entryName === name);
  return entry?.[2] ?? (name === "root" ? "0" : name);
}

function lines(text: string): string[][] {
  return text.split("\n").map((line) => line.trim().split(":"));
}

function toId(text: string): number | undefined {
  const id = Number(text);
  return /^\d+$/.test(text) && id <= MAX_ID ? id : undefined;
}
