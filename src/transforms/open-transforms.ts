import { ImportError } from "../domain/import-failure.ts";
import { unknownTransform } from "../domain/import-request.ts";
import type { TransformSettings } from "../domain/transform-settings.ts";
import { convert } from "./convert.ts";
import { decompress } from "./decompress.ts";
import { injectMetadata } from "./inject-metadata.ts";
import { loadTransform } from "./load-transform.ts";
import type { Transform } from "./transform.ts";

/** The functions that create the transforms which have a name in the configuration. */
const FACTORIES: Readonly<Record<string, (settings: TransformSettings) => Transform>> = {
  decompress: (settings) => decompress(settings.decompress),
  convert: (settings) => convert(settings.convert),
  inject_metadata: (settings) => injectMetadata(settings.injectMetadata),
};

/** The transforms of this worker, in the order in which they run. */
export class Transforms {
  readonly #transforms: ReadonlyMap<string, Transform>;

  private constructor(transforms: ReadonlyMap<string, Transform>) {
    this.#transforms = transforms;
  }

  /**
   * Opens all configured transforms, and loads those of the user.
   *
   * @throws ImportError `BadConfiguration` when one cannot be loaded, is not a transform, or has
   *   the name of another one
   */
  static async open(settings: TransformSettings): Promise<Transforms> {
    const transforms: Transform[] = [];
    for (const each of settings.order) transforms.push(await open(each, settings));
    return Transforms.of(transforms);
  }

  /**
   * Collects these transforms, in this order.
   *
   * @throws ImportError `BadConfiguration` when two have one name
   */
  static of(transforms: readonly Transform[]): Transforms {
    const byName = new Map(transforms.map((transform) => [transform.name, transform]));
    const twice = transforms.find((transform) => byName.get(transform.name) !== transform);
    if (twice === undefined) return new Transforms(byName);
    throw new ImportError(
      "BadConfiguration",
      `Cannot use import.transforms: two transforms have the name "${twice.name}"`,
    );
  }

  /** The names in the order in which they run. */
  get names(): string[] {
    return [...this.#transforms.keys()];
  }

  /**
   * Chooses the transforms of an import.
   *
   * @param wanted - names in the order of the user. Default: all, in the order of the configuration
   * @throws ImportError `BadRequest` when this worker does not have one
   */
  choose(wanted: readonly string[] = this.names): readonly string[] {
    const unknown = wanted.find((name) => !this.#transforms.has(name));
    if (unknown === undefined) return wanted;
    throw unknownTransform(unknown, this.names);
  }

  /**
   * Returns the transform of a name.
   *
   * @throws ImportError `BadConfiguration` when this worker has none
   */
  get(name: string): Transform {
    const transform = this.#transforms.get(name);
    if (transform !== undefined) return transform;
    throw new ImportError(
      "BadConfiguration",
      `Cannot run the transform "${name}": the configuration of this worker does not have it`,
      { hint: "Add it to `import.transforms` again, and restart the worker." },
    );
  }

  /**
   * Makes sure that all transforms can work on this machine.
   *
   * @throws ImportError `BadConfiguration` naming every transform that cannot work, and the reason
   */
  async requireWorking(): Promise<void> {
    const mistakes: string[] = [];
    for (const [name, transform] of this.#transforms) {
      const reason = await reasonAgainst(transform);
      if (reason !== undefined) mistakes.push(`${name}: ${reason}`);
    }
    if (mistakes.length === 0) return;
    throw new ImportError(
      "BadConfiguration",
      `Cannot run transforms on this machine: ${mistakes.join("; ")}`,
      { hint: "Install the missing programs, or remove the transform from `import.transforms`." },
    );
  }
}

async function reasonAgainst(transform: Transform): Promise<string | undefined> {
  try {
    return await transform.check?.();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function open(
  each: TransformSettings["order"][number],
  settings: TransformSettings,
): Promise<Transform> {
  if (typeof each !== "string") return loadTransform(each.module);
  const make = FACTORIES[each];
  if (make !== undefined) return make(settings);
  throw new ImportError(
    "BadConfiguration",
    `Cannot use import.transforms: this version does not have "${each}"`,
  );
}
