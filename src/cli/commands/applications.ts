/** `oak app …` */
import { Anything } from "../documents.ts";
import type { ClientOptions, Edge } from "../edge.ts";
import { findApplication, listApplications, openApi, servicesOf } from "../lookup.ts";
import { showDocument, showRows } from "../output.ts";

export async function list(edge: Edge, options: ClientOptions): Promise<void> {
  const applications = await listApplications(await openApi(edge, options));
  showRows(edge.terminal, {
    format: options.output,
    rows: applications,
    none: 'No application yet; deploy one with "oak deploy -f FILE"',
    columns: [
      { title: "NAME", value: (app) => app.application_name },
      { title: "NAMESPACE", value: (app) => app.application_namespace },
      { title: "SERVICES", value: (app) => (app.microservices ?? []).length },
      { title: "OWNER", value: (app) => app.userId },
      { title: "ID", value: (app) => app.applicationID },
    ],
  });
}

export async function show(edge: Edge, name: string, options: ClientOptions): Promise<void> {
  const api = await openApi(edge, options);
  const application = await findApplication(api, name);
  const services = await servicesOf(api, application.applicationID);
  showDocument(edge.terminal, options.output, { ...application, services });
}

export async function remove(edge: Edge, names: readonly string[], options: ClientOptions): Promise<void> {
  const api = await openApi(edge, options);
  for (const name of names) {
    const { applicationID, application_name } = await findApplication(api, name);
    await api.call(Anything, "DELETE", `/api/application/${applicationID}`);
    edge.terminal.err(`application ${application_name} removed\n`);
  }
}
