/** Who is it, and may they: login, tokens, and the rules of roles and ownership. */
import type { Clock } from "../../base/clock.ts";
import { AppError } from "../../base/errors.ts";
import { KeyedQueue } from "../../base/keyed-queue.ts";
import { objectId, secretToken } from "../../base/random.ts";
import { AttemptLimit } from "../attempt-limit.ts";
import type { Role, User } from "../model.ts";
import type { RootStore } from "../store/root-store.ts";
import type { Passwords } from "./passwords.ts";
import { invalid, issueToken, type Signer, type TokenType, verifyToken } from "./tokens.ts";

/** The caller of a request: as the store knows it now, not as it was when the token was made. */
export interface Caller {
  readonly id: string;
  readonly name: string;
  readonly roles: readonly Role[];
  readonly tokenEpoch: number;
}

const WINDOW_MS = 60_000;
const MAX_FAILURES_PER_USER = 10;
const MAX_FAILURES_PER_ADDRESS = 60;
/** The one organization that there is, by the name that clients send. */
const ORGANIZATION = "root";

export interface AuthOptions {
  readonly store: Pick<RootStore, "secret" | "user">;
  readonly passwords: Passwords;
  readonly clock: Clock;
  /** The user has another password, or is gone. */
  readonly onPasswordChanged?: (username: string) => Promise<void>;
}

export class Auth {
  readonly #options: AuthOptions;
  readonly #logins = new KeyedQueue();
  readonly #userChanges = new KeyedQueue();
  readonly #userLimit: AttemptLimit;
  readonly #addressLimit: AttemptLimit;
  #keys: Promise<{ signer: Signer; organization: string }> | undefined;

  constructor(options: AuthOptions) {
    const { clock } = options;
    this.#options = options;
    this.#userLimit = new AttemptLimit({ max: MAX_FAILURES_PER_USER, windowMs: WINDOW_MS, clock });
    this.#addressLimit = new AttemptLimit({ max: MAX_FAILURES_PER_ADDRESS, windowMs: WINDOW_MS, clock });
  }

  /** @throws AppError LOGIN_FAILED | TOO_MANY_LOGINS | NOT_FOUND for another organization than "root" */
  async logIn(given: {
    readonly username: string;
    readonly password: string;
    readonly organization: string;
    readonly address: string;
  }): Promise<{ token: string; refresh_token: string }> {
    if (given.organization !== "" && given.organization !== ORGANIZATION)
      throw new AppError("NOT_FOUND", `There is no organization ${JSON.stringify(given.organization)}`);
    const user = await this.confirmPassword(given);
    if (!user) throw new AppError("LOGIN_FAILED", "Unknown user or wrong password");
    return { token: await this.#issue(user, "access"), refresh_token: await this.#issue(user, "refresh") };
  }

  /** The user if the password is right. @throws AppError TOO_MANY_LOGINS */
  confirmPassword(given: { username: string; password: string; address: string }): Promise<User | undefined> {
    // In a row, so that a thousand guesses at once are counted like a thousand one after the other.
    return this.#logins.run(given.address, () => this.#checkPassword(given));
  }

  async #checkPassword(given: { username: string; password: string; address: string }): Promise<User | undefined> {
    const key = `${given.address} ${given.username}`;
    if (this.#userLimit.isExceeded(key) || this.#addressLimit.isExceeded(given.address)) {
      throw new AppError("TOO_MANY_LOGINS", "Too many failed logins: wait a minute and try again", {
        details: { retryAfterSeconds: WINDOW_MS / 1000 },
      });
    }
    const user = await this.#options.store.user(given.username);
    if (await this.#options.passwords.matches(given.password, user?.passwordHash)) return user;
    this.#userLimit.count(key);
    this.#addressLimit.count(given.address);
    return undefined;
  }

  /** @param authorization the header. @throws AppError TOKEN_MISSING | TOKEN_INVALID | TOKEN_EXPIRED */
  async caller(authorization: string | undefined, type: TokenType): Promise<Caller> {
    const token = /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1];
    if (token === undefined) {
      throw new AppError("TOKEN_MISSING", "Missing authentication token", {
        details: { msg: "Missing Authorization Header" },
      });
    }
    const { signer } = await this.#loadKeys();
    const claims = verifyToken(signer, token, type);
    const user = await this.#options.store.user(claims.sub);
    if (!user || user.tokenEpoch !== claims.epoch) throw invalid("Token has been revoked");
    const { id, name, roles, tokenEpoch } = user;
    return { id, name, roles, tokenEpoch };
  }

  accessToken(caller: Caller): Promise<string> {
    return this.#issue(caller, "access");
  }

  /** Changes of users, one after the other, so that two Admins cannot remove each other at once. */
  changeUsers<T>(change: () => Promise<T>): Promise<T> {
    return this.#userChanges.run("", change);
  }

  async passwordChanged(username: string): Promise<void> {
    await this.#options.onPasswordChanged?.(username);
  }

  async #issue(user: Caller, type: TokenType): Promise<string> {
    const { signer, organization } = await this.#loadKeys();
    return issueToken(signer, user, { type, organization });
  }

  #loadKeys(): Promise<{ signer: Signer; organization: string }> {
    this.#keys ??= this.#readKeys().catch((error: unknown) => {
      this.#keys = undefined;
      throw error;
    });
    return this.#keys;
  }

  async #readKeys(): Promise<{ signer: Signer; organization: string }> {
    const { store, clock } = this.#options;
    return {
      signer: { secret: await store.secret("jwt.secret", () => secretToken(48)), clock },
      organization: await store.secret("organization.root", objectId),
    };
  }
}

export function isAdmin(caller: Pick<Caller, "roles">): boolean {
  return caller.roles.includes("Admin");
}

/** @throws AppError FORBIDDEN unless the caller has one of `roles` */
export function requireRole(caller: Caller, roles: readonly Role[]): void {
  if (!roles.some((role) => caller.roles.includes(role))) throw forbidden(`this needs the role ${roles.join(" or ")}`);
}

/** @throws AppError FORBIDDEN unless it is the caller's own name, or an Admin asks */
export function requireSelf(caller: Caller, name: string): void {
  if (caller.name !== name && !isAdmin(caller)) throw forbidden("this is another user's");
}

/** Others' things look as if they did not exist, so that ids cannot be probed. */
export function maySee(caller: Caller, thing: { readonly owner: string }): boolean {
  return thing.owner === caller.name || isAdmin(caller);
}

export function forbidden(reason: string): AppError {
  return new AppError("FORBIDDEN", `You have not enough permissions! (${reason})`);
}
