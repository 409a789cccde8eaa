import { wrapped } from "./regions.mjs";

/**
 * A setting of the configuration file.
 *
 * @typedef {object} Setting
 * @property {string} name - with dots, such as `import.deadline`; a name that the user chooses is
 *   `NAME`
 * @property {string} values - the values that it takes, in words
 * @property {unknown} fallback - its default, as the program holds it; undefined when there is none
 * @property {boolean} isRequired
 * @property {string} unit - `size`, `duration`, or empty
 * @property {string | undefined} defaultText - the words for a default that is not a value
 * @property {string} description
 */

/**
 * The metadata that src/config gives a setting.
 *
 * @typedef {{ unit?: string, default?: string, description?: string, values?: string }} Meta
 */

/**
 * All settings that a schema of the configuration file has.
 *
 * @param {any} schema - of zod
 * @returns {Map<string, Setting>}
 */
export function settingsOf(schema) {
  /** @type {Map<string, Setting>} */
  const settings = new Map();
  collect(schema, "", settings);
  return settings;
}

/** @param {any} schema @param {string} name @param {Map<string, Setting>} settings */
function collect(schema, name, settings) {
  const { core, meta, fallback, isRequired } = unwrapped(schema);
  const { def } = core._zod;
  /** @param {string} key */
  const below = (key) => (name === "" ? key : `${name}.${key}`);
  if (def.type === "object") {
    for (const [key, each] of Object.entries(def.shape)) collect(each, below(key), settings);
  } else if (def.type === "union" && def.discriminator !== undefined) {
    for (const option of def.options) collect(option, name, settings);
  } else if (def.type === "record" && unwrapped(def.valueType).core._zod.def.shape !== undefined) {
    collect(def.valueType, below("NAME"), settings);
  } else if (def.type === "record" && unwrapped(def.valueType).core._zod.def.discriminator) {
    collect(def.valueType, below("NAME"), settings);
  } else {
    const earlier = settings.get(name);
    const values = valuesOf(core, meta);
    settings.set(name, {
      name,
      values: earlier === undefined || earlier.values === values ? values : both(earlier, values),
      fallback,
      isRequired,
      unit: meta.unit ?? "",
      defaultText: meta.default,
      description: meta.description ?? earlier?.description ?? "",
    });
  }
}

/** @param {Setting} earlier @param {string} values */
function both(earlier, values) {
  return `${earlier.values} or ${values}`;
}

/**
 * The innermost schema, and the metadata and default of the schemas that wrap it.
 *
 * @param {any} schema
 */
function unwrapped(schema) {
  /** @type {Meta} */
  let meta = {};
  let fallback;
  let isRequired = true;
  let core = schema;
  for (;;) {
    meta = { ...core.meta?.(), ...meta };
    const { type, innerType, defaultValue } = core._zod.def;
    if (type === "default") fallback ??= defaultValue;
    if (type === "default" || type === "prefault" || type === "optional") isRequired = false;
    if (innerType !== undefined) core = innerType;
    else if (type === "pipe" && core._zod.def.in._zod.def.type !== "transform") {
      core = core._zod.def.in;
    } else return { core, meta, fallback, isRequired };
  }
}

/** @param {any} core @param {Meta} meta @returns {string} */
function valuesOf(core, meta) {
  if (meta.values !== undefined) return meta.values;
  if (meta.unit !== undefined) return meta.unit;
  const { def } = core._zod;
  switch (def.type) {
    case "boolean":
      return "`true` or `false`";
    case "enum":
      return alternatives(Object.keys(def.entries));
    case "literal":
      return alternatives(def.values);
    case "number":
      return numbersOf(core);
    case "array": {
      const items = unwrapped(def.element);
      return `list of ${valuesOf(items.core, items.meta)}`;
    }
    case "union":
      return def.options
        .map((/** @type {any} */ option) => {
          const each = unwrapped(option);
          return valuesOf(each.core, each.meta);
        })
        .join(", or ");
    case "record":
      return "names and texts";
    default:
      return "text";
  }
}

/** @param {any} core */
function numbersOf({ minValue, maxValue, isInt }) {
  const kind = isInt ? "whole number" : "number";
  if (!isBound(minValue)) return kind;
  const from = String(minValue);
  return isBound(maxValue)
    ? `${kind} from ${from} to ${String(maxValue)}`
    : `${kind} from ${from} on`;
}

/** @param {unknown} value */
function isBound(value) {
  return typeof value === "number" && Math.abs(value) < Number.MAX_SAFE_INTEGER;
}

/** @param {readonly unknown[]} values */
function alternatives(values) {
  const shown = values.map((value) => `\`${String(value)}\``);
  const [last = "", ...others] = shown.reverse();
  return others.length === 0 ? last : `${others.reverse().join(", ")} or ${last}`;
}

/**
 * Settings as a list.
 *
 * @param {ReadonlyMap<string, Setting>} settings
 * @param {readonly string[]} names - settings, or sections of them such as `import`
 * @param {Set<string>} shown - collects the settings that a page has
 */
export function settingsText(settings, names, shown) {
  return [...settings.values()]
    .filter(({ name }) => names.some((wanted) => name === wanted || name.startsWith(`${wanted}.`)))
    .map((setting) => {
      shown.add(setting.name);
      const about = `\`${setting.name}\` (${setting.values}; ${defaultOf(setting)}): ${setting.description}`;
      return wrapped(about.trim(), { first: "- ", rest: "  " });
    })
    .join("\n");
}

/** @param {Setting} setting */
function defaultOf({ isRequired, fallback, unit, defaultText }) {
  if (defaultText !== undefined) return `default: ${defaultText}`;
  if (isRequired) return "required";
  if (fallback === undefined || fallback === null) return "no default";
  if (Array.isArray(fallback)) {
    return fallback.length === 0 ? "default: empty" : `default \`[${fallback.join(", ")}]\``;
  }
  if (typeof fallback === "object") return "default: none";
  return `default \`${inUnit(fallback, unit)}\``;
}

/** @param {unknown} value @param {string} unit */
function inUnit(value, unit) {
  if (typeof value !== "number") return String(value);
  if (unit.startsWith("duration")) return inLargest(value, DURATIONS);
  if (unit.startsWith("size")) return inLargest(value, SIZES);
  return String(value);
}

/** @type {readonly (readonly [string, number])[]} */
const DURATIONS = [
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
  ["ms", 1],
];

/** @type {readonly (readonly [string, number])[]} */
const SIZES = [
  ["TiB", 1024 ** 4],
  ["GiB", 1024 ** 3],
  ["MiB", 1024 ** 2],
  ["KiB", 1024],
  ["", 1],
];

/** @param {number} value @param {readonly (readonly [string, number])[]} units */
function inLargest(value, units) {
  const [name, size] = units.find(([, each]) => value % each === 0) ?? ["", 1];
  return `${String(value / size)}${name}`;
}
