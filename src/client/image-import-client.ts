import { Administration } from "./administration.ts";
import { Connections, type ClientOptions } from "./connections.ts";
import { HostFiles } from "./host-files.ts";
import { Images } from "./images.ts";
import { Imports } from "./imports.ts";
import { Members } from "./members.ts";

/**
 * The typed client: everything that the command line does, in five parts. All failures are
 * `ImportError`s with a stable `code` and a `hint`.
 *
 * @example
 * ```ts
 * const client = await ImageImportClient.connect({ temporal: { address: "127.0.0.1:7233" } });
 * const { run_id } = await client.imports.start("6d2f…");
 * const outcome = await client.imports.wait("6d2f…", run_id);
 * await client.close();
 * ```
 */
export class ImageImportClient {
  /** False: this client connects to Temporal, the catalogue and the stores directly. */
  readonly isRemote = false;
  /** Starts, steers and follows imports; Temporal alone is enough. */
  readonly imports: Imports;
  /** Creates, changes, lists and deletes images; needs the catalogue. */
  readonly images: Images;
  /** Offers images to projects, and records their answers; needs the catalogue. */
  readonly members: Members;
  /** Stages, downloads and verifies bytes; needs the catalogue and this host's configuration. */
  readonly files: HostFiles;
  /** Tasks, quotas and stores. */
  readonly admin: Administration;
  readonly #connections: Connections;

  private constructor(connections: Connections) {
    this.#connections = connections;
    this.images = new Images(connections);
    this.members = new Members(connections);
    this.admin = new Administration(connections);
    this.imports = new Imports(connections, this.images, this.admin);
    this.files = new HostFiles(connections, this.images, this.imports);
  }

  /** Makes a client. It connects to Temporal and the catalogue when a method first needs them. */
  static async connect(options: ClientOptions = {}): Promise<ImageImportClient> {
    return new ImageImportClient(new Connections(options));
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    await this.#connections.close();
  }
}
