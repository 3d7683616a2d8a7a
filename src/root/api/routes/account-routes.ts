/** Logging in, and one's own account. */
import * as z from "zod/mini";
import { AppError } from "../../../base/errors.ts";
import { requireSelf } from "../../auth/auth.ts";
import { MAX_PASSWORD_LENGTH } from "../../auth/passwords.ts";
import { notFound } from "../errors.ts";
import { jsonRoute, type Route } from "../route.ts";
import { UserDocument, userDocument } from "../user-document.ts";
import { NewPassword } from "./user-routes.ts";

const AnyPassword = z.string().check(z.maxLength(MAX_PASSWORD_LENGTH));
const Nothing = z.object({});

export const ACCOUNT_ROUTES: readonly Route[] = [
  jsonRoute({
    method: "POST",
    path: "/api/auth/login",
    tag: "login",
    summary: "Log in: an access token for ten minutes, and a refresh token for seven days",
    access: "open",
    body: z.looseObject({
      username: z.string().check(z.maxLength(100)),
      password: AnyPassword,
      organization_name: z.optional(z.string().check(z.maxLength(100))),
    }),
    schema: z.object({ token: z.string(), refresh_token: z.string() }),
    errors: ["LOGIN_FAILED", "TOO_MANY_LOGINS", "NOT_FOUND"],
    handle: async ({ deps, body, request }) =>
      deps.auth.logIn({
        username: body.username,
        password: body.password,
        organization: body.organization_name ?? "",
        address: request.remoteAddress,
      }),
  }),
  jsonRoute({
    method: "POST",
    path: "/api/auth/refresh",
    tag: "login",
    summary: "A new access token; send the refresh token as Bearer",
    access: "refresh",
    schema: z.object({ token: z.string() }),
    handle: async ({ deps, caller }) => ({ token: await deps.auth.accessToken(caller) }),
  }),
  jsonRoute({
    method: "GET",
    path: "/api/permission/:username",
    tag: "users",
    summary: "The roles of a user: one's own, or anybody's for an Admin",
    access: "user",
    schema: z.object({ roles: z.array(z.string()) }),
    errors: ["FORBIDDEN", "NOT_FOUND"],
    handle: async ({ deps, params, caller }) => {
      requireSelf(caller, params.username!);
      const user = await deps.store.user(params.username!);
      if (!user) throw notFound("user", params.username!);
      return { roles: [...user.roles] };
    },
  }),
  jsonRoute({
    method: "GET",
    path: "/api/user/:username",
    tag: "users",
    summary: "A user: oneself, or anybody for an Admin",
    access: "user",
    schema: UserDocument,
    errors: ["FORBIDDEN", "NOT_FOUND"],
    handle: async ({ deps, params, caller }) => {
      requireSelf(caller, params.username!);
      const user = await deps.store.user(params.username!);
      if (!user) throw notFound("user", params.username!);
      return userDocument(user);
    },
  }),
  jsonRoute({
    method: "POST",
    path: "/api/user/:username",
    tag: "users",
    summary: "Change one's own password; ends all logins of the user",
    access: "user",
    body: z.looseObject({ oldPassword: AnyPassword, newPassword: NewPassword }),
    schema: Nothing,
    errors: ["FORBIDDEN", "PASSWORD_REFUSED", "TOO_MANY_LOGINS"],
    handle: async ({ deps, params, caller, body, request }) => {
      // Not for Admins either: they do not know the old password, and have PUT.
      requireSelf({ ...caller, roles: [] }, params.username!);
      const user = await deps.auth.confirmPassword({
        username: caller.name,
        password: body.oldPassword,
        address: request.remoteAddress,
      });
      if (!user) throw new AppError("PASSWORD_REFUSED", "Old password is not valid!");
      if (body.oldPassword === body.newPassword)
        throw new AppError("PASSWORD_REFUSED", "Old password can't be the new password!");
      const passwordHash = await deps.passwords.hash(body.newPassword);
      await deps.auth.changeUsers(async () => {
        const now = await deps.store.user(user.name);
        // An Admin was quicker, maybe because the old password is known to somebody else.
        if (now?.tokenEpoch !== user.tokenEpoch)
          throw new AppError("PASSWORD_REFUSED", "The user was changed meanwhile: log in and try again");
        await deps.store.updateUser(user.name, { passwordHash, tokenEpoch: user.tokenEpoch + 1 });
      });
      await deps.auth.passwordChanged(user.name);
      return {};
    },
  }),
];
