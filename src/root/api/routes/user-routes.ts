/** Users, as Admins manage them. */
import * as z from "zod/mini";
import { AppError } from "../../../base/errors.ts";
import { objectId } from "../../../base/random.ts";
import { quote } from "../../../protocol/names.ts";
import { MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH } from "../../auth/passwords.ts";
import { ROLES, type Role, type User } from "../../model.ts";
import { invalidBody } from "../body.ts";
import { notFound } from "../errors.ts";
import { type ApiDeps, jsonRoute, type Route } from "../route.ts";
import { UserDocument, userDocument } from "../user-document.ts";

export const NewPassword = z.string().check(z.minLength(MIN_PASSWORD_LENGTH), z.maxLength(MAX_PASSWORD_LENGTH));

/** The 2023 release sends objects, later ones strings. */
const RoleNames = z.array(
  z.union([z.enum(ROLES), z.looseObject({ name: z.enum(ROLES) })], { error: `must be one of ${ROLES.join(", ")}` }),
);
const roleNames = (roles: z.infer<typeof RoleNames>): Role[] => [
  ...new Set(roles.map((role) => (typeof role === "string" ? role : role.name))),
];

const UserName = z.string().check(
  z.regex(/^[a-zA-Z0-9][a-zA-Z0-9@._-]{0,63}$/, {
    error: (issue) => `${quote(issue.input)} is not a user name: use 1 to 64 letters, digits and @ . _ -`,
  }),
);
const Email = z.string().check(z.maxLength(254));

export const USER_ROUTES: readonly Route[] = [
  jsonRoute({
    method: "POST",
    path: "/api/auth/register",
    tag: "users",
    summary: "Add a user",
    access: ["Admin"],
    body: z.looseObject({
      name: UserName,
      password: NewPassword,
      email: z.optional(Email),
      roles: z.optional(RoleNames),
    }),
    schema: z.looseObject({ message: z.string(), ...UserDocument.shape }),
    errors: ["NAME_TAKEN"],
    handle: async ({ deps, body }) => {
      const user: User = {
        id: objectId(),
        name: body.name,
        email: body.email ?? "",
        passwordHash: await deps.passwords.hash(body.password),
        roles: roleNames(body.roles ?? []),
        createdAt: deps.clock.now(),
        // Not 0: tokens of a removed user of that name must not be this one's.
        tokenEpoch: deps.clock.now(),
      };
      await deps.store.addUser(user);
      return { message: "Added new user", ...userDocument(user) };
    },
  }),
  ...["/api/users", "/api/users/:organization"].map((path) =>
    jsonRoute({
      method: "GET",
      path,
      tag: "users",
      summary: path === "/api/users" ? "All users" : "All users; there is one organization",
      access: ["Admin"],
      schema: z.array(UserDocument),
      handle: async ({ deps }) => (await deps.store.users()).map(userDocument),
    }),
  ),
  jsonRoute({
    method: "PUT",
    path: "/api/user/:username",
    tag: "users",
    summary: "Change a user's roles, e-mail address or password; new roles or a new password end the user's logins",
    access: ["Admin"],
    body: z.looseObject({
      roles: z.optional(RoleNames),
      email: z.optional(Email),
      password: z.optional(NewPassword),
    }),
    schema: z.literal("ok"),
    errors: ["NOT_FOUND", "IN_USE"],
    handle: async ({ deps, params, body }) => {
      const roles = body.roles && roleNames(body.roles);
      const passwordHash = body.password === undefined ? undefined : await deps.passwords.hash(body.password);
      if (!roles && passwordHash === undefined && body.email === undefined)
        throw invalidBody([{ field: "", message: "give roles, email or password" }]);
      await deps.auth.changeUsers(async () => {
        const user = await findUser(deps, params.username!);
        if (roles && !roles.includes("Admin")) await refuseLastAdmin(deps, user, "take the role Admin from");
        await deps.store.updateUser(user.name, {
          ...(roles ? { roles } : {}),
          ...(body.email === undefined ? {} : { email: body.email }),
          ...(passwordHash === undefined ? {} : { passwordHash }),
          ...(roles || passwordHash !== undefined ? { tokenEpoch: user.tokenEpoch + 1 } : {}),
        });
      });
      if (passwordHash !== undefined) await deps.auth.passwordChanged(params.username!);
      return "ok" as const;
    },
  }),
  jsonRoute({
    method: "DELETE",
    path: "/api/user/:username",
    tag: "users",
    summary: "Remove a user without applications; answers with those who remain",
    access: ["Admin"],
    schema: z.array(UserDocument),
    errors: ["NOT_FOUND", "IN_USE"],
    handle: async ({ deps, params }) => {
      await deps.auth.changeUsers(async () => {
        const user = await findUser(deps, params.username!);
        await refuseLastAdmin(deps, user, "remove");
        await deps.store.removeUser(user.name);
      });
      await deps.auth.passwordChanged(params.username!);
      return (await deps.store.users()).map(userDocument);
    },
  }),
];

async function findUser({ store }: ApiDeps, name: string): Promise<User> {
  const user = await store.user(name);
  if (!user) throw notFound("user", name);
  return user;
}

async function refuseLastAdmin({ store }: ApiDeps, user: User, action: string): Promise<void> {
  const admins = (await store.users()).filter(({ roles }) => roles.includes("Admin"));
  if (admins.length === 1 && admins[0]?.name === user.name)
    throw new AppError("IN_USE", `Cannot ${action} ${quote(user.name)}: it is the last Admin`);
}
