import { readFully } from "../bytes/positional-io.ts";
import { WriteBehind } from "../bytes/write-behind.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { formatDuration } from "../domain/duration.ts";
import { VMDK_TYPES } from "../domain/format-policy.ts";
import { ImportError } from "../domain/import-failure.ts";
import { timerMs } from "../domain/timer-ms.ts";
import type { ConvertSettings } from "../domain/transform-settings.ts";
import { versionOf, whyNotRunnable, type ProgramLimits } from "./limited-program.ts";
import { makeProduct } from "./make-product.ts";
import { checkDisk, conversionFailed, convertDisk, inspectDisk } from "./qemu-img.ts";
import type { DiskFile, DiskInfo } from "./qemu-img.ts";
import type { Transform, TransformWork } from "./transform.ts";

const ALIVE_EVERY_MS = 1_000;

const GIB = 1024 ** 3;

// QEMU's drivers by Glance's formats. The other formats contain no disk that could be converted, or
// must stay as they are: an ISO is booted as a disc.
const DRIVERS: Readonly<Record<string, string>> = {
  raw: "raw",
  gpt: "raw",
  luks: "luks",
  qcow2: "qcow2",
  vmdk: "vmdk",
  vdi: "vdi",
  vhd: "vpc",
  vhdx: "vhdx",
};

/**
 * Converts a disk image to another format with qemu-img. An image that has the format already, or
 * is not a disk (iso, ami, ari, aki, ploop), stays as it is. The image must have been judged
 * before: qemu-img runs with limits, and inspects the image first, but it does not find hostile
 * images.
 *
 * `run` throws `ImportError`: `ConversionFailed` for an image that is encrypted, refers to other
 * files, or is not of the declared format, and if qemu-img cannot read it or takes too long;
 * `ProductTooLarge` above the limit; `NoSpace` and similar failures of the disk.
 */
export function convert(settings: ConvertSettings): Transform {
  const { target, timeLimitMs = 6 * 3_600_000, qemuImg = "qemu-img" } = settings;
  return {
    name: "convert",
    run: async (work) => {
      const driver = DRIVERS[work.image.diskFormat];
      if (driver === undefined || driver === target) return undefined;
      const time = AbortSignal.timeout(timerMs(timeLimitMs));
      const signal = AbortSignal.any([work.signal, time]);
      const conversion = new Conversion(settings, qemuImg, { ...work, signal });
      await conversion.run(driver).catch((error: unknown) => {
        throw time.aborted && error === time.reason ? tookTooLong(timeLimitMs) : error;
      });
      return { hasProduct: true, diskFormat: target, tool: await versionOf(qemuImg) };
    },
    check: async () => whyNotRunnable(qemuImg, "qemu-utils"),
  };
}

class Conversion {
  readonly #settings: ConvertSettings;
  readonly #qemuImg: string;
  readonly #work: TransformWork;

  constructor(settings: ConvertSettings, qemuImg: string, work: TransformWork) {
    this.#settings = settings;
    this.#qemuImg = qemuImg;
    this.#work = work;
  }

  async run(driver: string): Promise<void> {
    const { target } = this.#settings;
    const source = { handle: this.#work.source, driver };
    await assertNotLuks(source);
    const info = await this.#inspect(source);
    if (driver === "vmdk") this.#assertAllowedType(info.createType);
    this.#assertFits(info);
    await this.#check(source, info);
    await makeProduct(this.#work, async (handle) => {
      await this.#convert(source, { handle, driver: target }, info);
      const product = await this.#inspect({ handle, driver: target });
      if (product.virtualSizeBytes === info.virtualSizeBytes) return;
      throw conversionFailed(
        `the disk in the product has ${product.virtualSizeBytes} bytes, but the disk in the image has ${info.virtualSizeBytes}`,
      );
    });
  }

  /** Reports progress while qemu-img checks, which takes minutes without any output. */
  async #check(source: DiskFile, info: DiskInfo): Promise<void> {
    const { report, signal } = this.#work;
    const alive = setInterval(() => {
      report(0);
    }, ALIVE_EVERY_MS);
    try {
      await checkDisk(this.#qemuImg, source, { limits: this.#limits(info), signal });
    } finally {
      clearInterval(alive);
    }
  }

  async #convert(source: DiskFile, target: DiskFile, info: DiskInfo): Promise<void> {
    const { vmdkType = "monolithicSparse" } = this.#settings;
    const { report, signal } = this.#work;
    const totalBytes = info.virtualSizeBytes;
    const behind = new WriteBehind(() => target.handle.datasync());
    let doneBytes = 0;
    try {
      await convertDisk(this.#qemuImg, {
        ...{ source, target, signal },
        targetOptions: target.driver === "vmdk" ? [`subformat=${vmdkType}`] : [],
        limits: this.#limits(info),
        onProgress: (part) => {
          const nowBytes = Math.round(part * totalBytes);
          behind.wrote(nowBytes - doneBytes);
          doneBytes = nowBytes;
          report(doneBytes, totalBytes);
        },
      });
    } finally {
      await behind.end();
    }
  }

  #limits({ virtualSizeBytes }: DiskInfo): ProgramLimits {
    return {
      memoryBytes: this.#settings.memoryBytes ?? GIB,
      // A minute for each GiB: compressing the product takes a fraction of that.
      cpuSeconds: 60 + Math.ceil((virtualSizeBytes / GIB) * 60),
      fileBytes: this.#work.maxProductBytes,
    };
  }

  async #inspect(disk: DiskFile): Promise<DiskInfo> {
    const info = await inspectDisk(this.#qemuImg, disk, this.#work.signal);
    assertSound(info, disk.driver);
    return info;
  }

  #assertAllowedType(createType: string | undefined): void {
    const allowed: readonly string[] = [...(this.#settings.vmdkAllowedTypes ?? VMDK_TYPES)];
    if (createType !== undefined && allowed.includes(createType)) return;
    throw conversionFailed(
      `it is a vmdk of type "${createType ?? ""}", which is not allowed (allowed: ${allowed.join(", ") || "none"})`,
    );
  }

  /** Refuses a product that is too large before qemu-img writes it. */
  #assertFits({ virtualSizeBytes }: DiskInfo): void {
    const { maxProductBytes } = this.#work;
    if (this.#settings.target !== "raw" || virtualSizeBytes <= maxProductBytes) return;
    throw new ImportError(
      "ProductTooLarge",
      `Cannot convert the image: its disk has ${formatBytes(virtualSizeBytes)}, more than the ${formatBytes(maxProductBytes)} that the product may have`,
    );
  }
}

function assertSound(info: DiskInfo, driver: string): void {
  if (info.format !== driver) {
    throw conversionFailed(`qemu-img recognises "${info.format}" instead of "${driver}"`);
  }
  if (info.isEncrypted) throw conversionFailed("it is encrypted");
  const [reference] = info.references;
  if (reference !== undefined)
    throw conversionFailed(`it refers to another file, its ${reference}`);
}

const LUKS_MARK = Buffer.from("LUKS\xba\xbe", "latin1");

/**
 * Refuses an encrypted disk. qemu-img would convert it as it is to a disk that no program can open.
 */
async function assertNotLuks({ handle, driver }: DiskFile): Promise<void> {
  const first = Buffer.alloc(LUKS_MARK.length);
  await readFully(handle, first, 0);
  if (driver === "luks" || first.equals(LUKS_MARK))
    throw conversionFailed("it is encrypted (LUKS)");
}

function tookTooLong(timeLimitMs: number): ImportError {
  return conversionFailed(
    `it took longer than ${formatDuration(timeLimitMs)}, the time limit of conversion`,
  );
}
