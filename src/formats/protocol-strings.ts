// Names that QEMU does not take for those of files: its protocol drivers before a colon
// (`qemu-img --help`, "Supported formats"), and its `json:` pseudo-protocol.
const PROTOCOLS =
  /(?<![\w.])(?:json|nbd|https?|ftps?|ssh|sftp|iscsi|iser|rbd|nfs|gluster|sheepdog|smb|nvme|vvfat|fat|file|fd|data|blkdebug|blkverify|blklogwrites|host_device|host_cdrom|null-co|null-aio|vhost-user-blk|io_uring)(?:\+[a-z]{1,16})?:/i;

/**
 * The reason to refuse a text in an image's header: it names a location that a program might open.
 */
export function protocolProblem(where: string, text: string): string | undefined {
  const [protocol] = PROTOCOLS.exec(text) ?? [];
  return protocol === undefined
    ? undefined
    : `its ${where} refers to data outside the image, "${protocol}…"`;
}
