import { Option, type Command } from "commander";
import { VISIBILITIES, type Visibility } from "../domain/visibility.ts";
import { numberOf } from "./arguments.ts";

/** The options for the visibility, protection and needs of an image, as commander gives them. */
export interface AttributeOptions extends Partial<Readonly<Record<Visibility, boolean>>> {
  readonly visibility?: Visibility;
  readonly protected?: boolean;
  readonly unprotected?: boolean;
  readonly hidden?: boolean;
  readonly unhidden?: boolean;
  readonly minDisk?: number;
  readonly minRam?: number;
}

/** The descriptions of the options: they set an attribute, or choose by it. */
interface Descriptions {
  readonly visibility: string;
  readonly protected: string;
  readonly unprotected: string;
  readonly hidden: string;
  readonly unhidden: string;
  readonly minDisk: string;
  readonly minRam: string;
}

/** The descriptions of options that set an attribute. */
export const SET_ATTRIBUTES: Descriptions = {
  visibility: "who sees it over HTTP",
  protected: "forbid its deletion, and the replacement of its staged data",
  unprotected: "allow both again",
  hidden: "leave it out of lists over HTTP, unless they ask for hidden images",
  unhidden: "list it again",
  minDisk: "disk that a machine needs to boot it, in GiB",
  minRam: "memory that a machine needs to boot it, in MiB",
};

/** The descriptions of options that choose by an attribute. */
export const CHOOSE_BY_ATTRIBUTES: Descriptions = {
  visibility: "only images of this visibility",
  protected: "only images that are protected",
  unprotected: "only images that are not protected",
  hidden: "only images that are hidden",
  unhidden: "only images that are not hidden",
  minDisk: "only images that need exactly this disk, in GiB",
  minRam: "only images that need exactly this memory, in MiB",
};

/** Adds the options of {@link AttributeOptions}, with the names of the `openstack` command. */
export function addAttributeOptions(command: Command, descriptions: Descriptions): void {
  const others = (visibility: Visibility): string[] => [
    "visibility",
    ...VISIBILITIES.filter((each) => each !== visibility),
  ];
  command.addOption(
    new Option("--visibility <visibility>", descriptions.visibility).choices(VISIBILITIES),
  );
  for (const each of VISIBILITIES) {
    const option = new Option(`--${each}`, `the same as --visibility ${each}`);
    command.addOption(option.conflicts(others(each)));
  }
  command
    .addOption(new Option("--protected", descriptions.protected).conflicts("unprotected"))
    .option("--unprotected", descriptions.unprotected)
    .addOption(new Option("--hidden", descriptions.hidden).conflicts("unhidden"))
    .option("--unhidden", descriptions.unhidden)
    .addOption(new Option("--min-disk <gib>", descriptions.minDisk).argParser(numberOf))
    .addOption(new Option("--min-ram <mib>", descriptions.minRam).argParser(numberOf));
}

/** The attributes that the options name; undefined: none. */
export function attributesOf(options: AttributeOptions) {
  return {
    visibility: options.visibility ?? VISIBILITIES.find((each) => options[each] === true),
    protected: options.protected ?? (options.unprotected === true ? false : undefined),
    hidden: options.hidden ?? (options.unhidden === true ? false : undefined),
    minDisk: options.minDisk,
    minRam: options.minRam,
  };
}
