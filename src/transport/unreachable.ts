/** Why a server could not be spoken to, in words with a remedy. The codes are those of the system, of OpenSSL and of Node's HTTP parser. Pure. */
import { describeError } from "../base/errors.ts";

const UNTRUSTED = "nobody who is trusted here has signed its certificate: name the CA's file in NODE_EXTRA_CA_CERTS";
const CLOCK = "look at the clock of both machines";

/** @param server that was to be spoken to, http: or https: */
export function whyUnreachable(error: unknown, server: URL): string {
  const isTls = server.protocol === "https:";
  const port = server.port || (isTls ? "443" : "80");
  for (const code of codesOf(error)) {
    if (code.startsWith("HPE_")) return `what listens on port ${port} speaks no HTTP: is the port right?`;
    switch (code) {
      case "ECONNREFUSED":
        return `nothing listens on port ${port} there: is it running, ${isLoopback(server) ? "" : "for other machines (--host), "}and is the port right?`;
      case "ENOTFOUND":
        return `the name "${server.hostname}" does not resolve: is it spelt right?`;
      case "EAI_AGAIN":
        return `the name "${server.hostname}" cannot be looked up now: the name server does not answer`;
      case "EHOSTUNREACH":
      case "ENETUNREACH":
        return "no way leads there: is the address right, is the network up?";
      case "ETIMEDOUT":
        return "no answer: is the address right, does a firewall drop the packets?";
      case "ECONNRESET":
      case "EPIPE":
        return isTls
          ? "it closes the connection: is the port right?"
          : "it closes the connection: is the port right, and if it speaks TLS, write https://";
      case "EPROTO":
        return `what listens on port ${port} speaks no TLS: write http://, or correct the port`;
      case "DEPTH_ZERO_SELF_SIGNED_CERT":
      case "SELF_SIGNED_CERT_IN_CHAIN":
      case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
      case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
        return UNTRUSTED;
      case "CERT_HAS_EXPIRED":
        return `its certificate has expired: renew it, or ${CLOCK}`;
      case "CERT_NOT_YET_VALID":
        return `its certificate is not valid yet: ${CLOCK}`;
      case "ERR_TLS_CERT_ALTNAME_INVALID":
        return `its certificate is not for the name "${server.hostname}"`;
    }
  }
  return describeError(error);
}

function isLoopback({ hostname }: URL): boolean {
  return hostname === "localhost" || hostname === "[::1]" || hostname.startsWith("127.");
}

/** A failed connection to a name with several addresses comes as an AggregateError: the first address speaks for all. */
function codesOf(error: unknown): string[] {
  const codes: string[] = [];
  for (let current = error; current instanceof Error && codes.length < 10; ) {
    const { code } = current as { code?: unknown };
    if (typeof code === "string") codes.push(code);
    current = current instanceof AggregateError ? current.errors[0] : current.cause;
  }
  return codes;
}
