import type { ContainerFormat, DiskFormat } from "./disk-format.ts";
import { ImportError } from "./import-failure.ts";
import { isStorable } from "./storable-text.ts";
import type { Visibility } from "./visibility.ts";

/** The fields of an image that its owner sets freely. */
export interface ImageFields {
  readonly name?: string | null | undefined;
  readonly owner?: string | null | undefined;
  readonly minDisk?: number | undefined;
  readonly minRam?: number | undefined;
  readonly properties?: Readonly<Record<string, string>> | undefined;
  readonly tags?: readonly string[] | undefined;
}

/** Changes of an image. `undefined` changes nothing, null removes a value. */
export interface ImageChanges {
  readonly name?: string | null | undefined;
  /** The image counts in the quotas of its new owner. */
  readonly owner?: string | null | undefined;
  readonly diskFormat?: DiskFormat | null | undefined;
  readonly containerFormat?: ContainerFormat | null | undefined;
  readonly visibility?: Visibility | undefined;
  /** True: the image cannot be deleted, and its staged data cannot be replaced. */
  readonly protected?: boolean | undefined;
  /** True: Glance's lists leave it out unless they ask for it. */
  readonly osHidden?: boolean | undefined;
  /** The disk that a machine needs to boot it, in GiB. */
  readonly minDisk?: number | undefined;
  /** The memory that a machine needs to boot it, in MiB. */
  readonly minRam?: number | undefined;
  readonly setProperties?: Readonly<Record<string, string>> | undefined;
  readonly removeProperties?: readonly string[] | undefined;
  /** All tags: others are removed. */
  readonly tags?: readonly string[] | undefined;
  readonly addTags?: readonly string[] | undefined;
  readonly removeTags?: readonly string[] | undefined;
}

// The widths of Glance's columns.
const LONGEST_NAME = 255;
const LONGEST_VALUE = 65_535;
const MOST_OF_A_MINIMUM = 2 ** 31 - 1;

// Glance's three groups of names that are not properties: those that only the service sets, those
// that it reserves, and those of attributes that are set in another way.
const READ_ONLY = [
  ...["id", "status", "checksum", "size", "virtual_size", "os_hash_algo", "os_hash_value"],
  ...["created_at", "updated_at", "direct_url", "self", "file", "schema", "stores", "locations"],
];
const RESERVED = ["location", "deleted", "deleted_at"];
const BASE = [
  ...["name", "owner", "disk_format", "container_format", "tags", "visibility", "protected"],
  ...["min_disk", "min_ram", "os_hidden"],
];

/**
 * Checks the fields of an image that are given.
 *
 * @throws ImportError `BadRequest` for a name that is reserved, or a text that is too long, empty
 *   or not printable
 */
export function requireImageFields(fields: ImageFields): void {
  const { name, owner, minDisk, minRam, properties = {}, tags = [] } = fields;
  const mistakes = [
    mistakeInText("The name", name ?? undefined),
    mistakeInText("The owner", owner ?? undefined),
    mistakeInMinimum("min_disk", minDisk),
    mistakeInMinimum("min_ram", minRam),
    ...Object.entries(properties).flatMap(([property, value]) => [
      mistakeInPropertyName(property),
      mistakeInPropertyValue(property, value),
    ]),
    ...tags.map(
      (tag) => mistakeInText("A tag", tag) ?? (tag === "" ? "A tag is empty" : undefined),
    ),
  ];
  const mistake = mistakes.find((each) => each !== undefined);
  if (mistake === undefined) return;
  throw new ImportError("BadRequest", mistake, {
    hint: /^Attribute/.test(mistake)
      ? "Choose another name for the property; `image-import image set --help` lists the attributes that are set in another way."
      : "Correct it and send it again.",
  });
}

/** The reason against a name of a property, in Glance's words; undefined if it is valid. */
export function mistakeInPropertyName(name: string): string | undefined {
  if (name === "") return "A property needs a name";
  if (name.startsWith("os_glance") || RESERVED.includes(name)) {
    return `Attribute '${name}' is reserved`;
  }
  if (READ_ONLY.includes(name)) return `Attribute '${name}' is read-only`;
  if (BASE.includes(name)) return `Attribute '${name}' is one of the image itself, not a property`;
  return mistakeInText("The name of a property", name);
}

/** The reason against a value of a property; undefined if it is valid. */
export function mistakeInPropertyValue(name: string, value: string): string | undefined {
  const what = `The value of the property "${name}"`;
  if (lengthOf(value) > LONGEST_VALUE) return tooLong(what, value, LONGEST_VALUE);
  // Line ends and tabs are harmless in a value.
  return mistakeInCharacters(what, value);
}

function mistakeInMinimum(field: string, minimum: number | undefined): string | undefined {
  if (minimum === undefined) return undefined;
  if (Number.isInteger(minimum) && minimum >= 0 && minimum <= MOST_OF_A_MINIMUM) return undefined;
  return `${field} must be a whole number from 0 to ${MOST_OF_A_MINIMUM}, not ${minimum}`;
}

/** The reason against the id of a member of an image; undefined if it is valid. */
export function mistakeInMember(member: string): string | undefined {
  return member === "" ? "Member can't be empty" : mistakeInText("The member", member);
}

function mistakeInText(what: string, text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  if (lengthOf(text) > LONGEST_NAME) return tooLong(what, text, LONGEST_NAME);
  if (hasControlCharacter(text)) return `${what} has a control character`;
  return mistakeInCharacters(what, text);
}

/** The reason against characters that Postgres cannot store; undefined if there are none. */
function mistakeInCharacters(what: string, text: string): string | undefined {
  if (isStorable(text)) return undefined;
  return `${what} has ${text.includes("\0") ? "a NUL character" : "half of a surrogate pair"}`;
}

function tooLong(what: string, text: string, longest: number): string {
  return `${what} has ${lengthOf(text)} characters, and may have ${longest} at most`;
}

/** The number of characters, as Glance and Postgres count them. */
function lengthOf(text: string): number {
  return Array.from(text).length;
}

function hasControlCharacter(text: string): boolean {
  return /\p{Cc}/u.test(text);
}

/** A valid name of an image, made from the name of a file or the end of a URL. */
export function imageNameOf(text: string): string {
  return Array.from(text.replace(/\p{Cc}/gu, "_"))
    .slice(0, LONGEST_NAME)
    .join("");
}
