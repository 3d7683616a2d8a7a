import * as z from "zod/mini";
import type { User } from "../model.ts";
import { ObjectId } from "./documents.ts";

/** Without the password's hash, which the original gave away. */
export const UserDocument = z.object({
  _id: ObjectId,
  name: z.string(),
  email: z.string(),
  roles: z.array(z.string()),
  /** dd/mm/YYYY HH:MM, UTC. */
  created_at: z.string(),
});
export type UserDocument = z.infer<typeof UserDocument>;

export function userDocument({ id, name, email, roles, createdAt }: User): UserDocument {
  const [date = "", time = ""] = new Date(createdAt).toISOString().split("T");
  return {
    _id: { $oid: id },
    name,
    email,
    roles: [...roles],
    created_at: `${date.split("-").reverse().join("/")} ${time.slice(0, 5)}`,
  };
}
