import type { Config } from "../config/config.ts";
import { badRequest, conflict } from "./http-failure.ts";
import type { ServicePlace } from "./identity.ts";

/** The ways of import, in the order in which clients list them. */
export const IMPORT_METHODS_HERE = [
  "glance-direct",
  "web-download",
  "copy-image",
  "glance-download",
] as const;

/** One of {@link IMPORT_METHODS_HERE}. */
export type MethodHere = (typeof IMPORT_METHODS_HERE)[number];

/** The wishes of a request to import. */
export interface ImportBody {
  readonly name: MethodHere;
  /** `web-download`: the URL. */
  readonly uri: string | undefined;
  /** `glance-download`: the image of the other service. */
  readonly remote: PlacedImage | undefined;
  readonly stores: readonly string[] | undefined;
  readonly allStores: boolean;
  readonly allStoresMustSucceed: boolean;
}

/** An image of another service, and the place of that service in the catalogue of services. */
export interface PlacedImage extends ServicePlace {
  readonly imageId: string;
}

/**
 * Reads the body of a request to import, without looking at the image.
 *
 * @param storeHeader - `X-Image-Meta-Store`: the one store
 * @throws HttpFailure 400
 */
export function readImportBody(body: unknown, storeHeader: string | undefined): ImportBody {
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw badRequest("Body expected in request.");
  }
  const given = body as Readonly<Record<string, unknown>>;
  const method = given["method"];
  if (typeof method !== "object" || method === null || !("name" in method)) {
    throw badRequest("Name of import method required");
  }
  const fields = method as Readonly<Record<string, unknown>>;
  const name = IMPORT_METHODS_HERE.find((each) => each === fields["name"]);
  if (name === undefined) {
    throw badRequest(`Unknown import method name '${String(fields["name"])}'.`);
  }
  const allStores = flag(given, "all_stores", false);
  const stores = readStores(given["stores"], storeHeader);
  if (allStores && stores !== undefined) {
    throw badRequest(
      "Stores parameter and x-image-meta-store header can't be both specified with all_stores",
    );
  }
  return {
    name,
    // One client sends an empty uri with every method.
    uri: name === "web-download" ? readUri(fields["uri"]) : undefined,
    remote: name === "glance-download" ? readRemote(fields) : undefined,
    stores,
    allStores,
    allStoresMustSucceed: flag(given, "all_stores_must_succeed", true),
  };
}

function flag(given: Readonly<Record<string, unknown>>, name: string, otherwise: boolean): boolean {
  const value = given[name];
  if (value === undefined) return otherwise;
  if (typeof value === "boolean") return value;
  throw badRequest(`'${name}' must be boolean value only`);
}

/** Reads the stores. One client sends both the header and the list: they must name the same one. */
function readStores(given: unknown, header: string | undefined): readonly string[] | undefined {
  if (
    given !== undefined &&
    !(Array.isArray(given) && given.every((each) => typeof each === "string"))
  ) {
    throw badRequest("'stores' must be a list of names of stores");
  }
  const listed = given === undefined || given.length === 0 ? undefined : [...new Set(given)];
  if (header === undefined) return listed;
  if (listed === undefined || (listed.length === 1 && listed[0] === header)) return [header];
  throw badRequest("Stores parameter and x-image-meta-store header can't be both specified");
}

function readUri(uri: unknown): string {
  if (typeof uri === "string" && uri !== "") return uri;
  throw badRequest("URI is required if using 'web-download' import method");
}

// The kinds of addresses in Keystone's catalogue of services.
const SERVICE_INTERFACES = ["public", "internal", "admin"] as const;

function isServiceInterface(value: unknown): value is ServicePlace["serviceInterface"] {
  return SERVICE_INTERFACES.some((each) => each === value);
}

function readRemote(fields: Readonly<Record<string, unknown>>): PlacedImage {
  const { glance_image_id: imageId, glance_region: region } = fields;
  const { glance_service_interface: serviceInterface = "public" } = fields;
  if (typeof region !== "string" || region === "") {
    throw badRequest("'glance_region' is required if using 'glance-download' import method");
  }
  if (typeof imageId !== "string") {
    throw badRequest("'glance_image_id' is required if using 'glance-download' import method");
  }
  if (!/^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i.test(imageId)) {
    throw badRequest(`Remote image id does not look like a UUID: ${imageId}`);
  }
  if (!isServiceInterface(serviceInterface)) {
    throw badRequest("'glance_service_interface' must be public, internal or admin");
  }
  return { region, imageId: imageId.toLowerCase(), serviceInterface };
}

/**
 * Refuses a store that this host does not have.
 *
 * @throws HttpFailure 409
 */
export function requireStores(config: Config, stores: readonly string[] | undefined): void {
  for (const store of stores ?? []) {
    if (!Object.hasOwn(config.stores, store)) {
      throw conflict(
        `Store ${store} is not available on this node; it has ${Object.keys(config.stores).join(", ")}`,
      );
    }
  }
}
