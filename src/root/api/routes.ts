import type { Route } from "./route.ts";
import { ABOUT_ROUTES } from "./routes/about-routes.ts";
import { ACCOUNT_ROUTES } from "./routes/account-routes.ts";
import { APPLICATION_ROUTES } from "./routes/application-routes.ts";
import { CLUSTER_ROUTES } from "./routes/cluster-routes.ts";
import { EXPLAIN_ROUTES } from "./routes/explain-routes.ts";
import { INSTANCE_ROUTES } from "./routes/instance-routes.ts";
import { REGISTRY_ROUTES } from "./routes/registry-routes.ts";
import { SERVICE_ROUTES } from "./routes/service-routes.ts";
import { USER_ROUTES } from "./routes/user-routes.ts";

/** Everything that the root's API answers to. Of two rows that fit a path, the first wins. */
export const ROUTES: readonly Route[] = [
  ...ACCOUNT_ROUTES,
  ...USER_ROUTES,
  ...APPLICATION_ROUTES,
  ...SERVICE_ROUTES,
  ...INSTANCE_ROUTES,
  ...EXPLAIN_ROUTES,
  ...CLUSTER_ROUTES,
  ...REGISTRY_ROUTES,
  ...ABOUT_ROUTES,
];
