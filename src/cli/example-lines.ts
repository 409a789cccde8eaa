/** A use of a command. */
export interface Example {
  /** The purpose of the line, without a full stop. */
  readonly does: string;
  /** A line of a POSIX shell. */
  readonly line: string;
}

function example(does: string, line: string): Example {
  return { does, line };
}

const START = (command: string): readonly Example[] => [
  example("Import the data that is staged", `image-import ${command} debian`),
  example(
    "Let a worker download the data, into every store",
    `image-import ${command} debian --method web-download --uri https://example.com/debian.qcow2 --all-stores`,
  ),
];

/**
 * Examples by the names of their commands. `--help`, the man pages and docs/commands.md show them.
 */
export const EXAMPLES: Readonly<Record<string, readonly Example[]>> = {
  "": [
    example("Run Postgres, Temporal, a worker and the API here, until Ctrl-C", "image-import dev"),
    example("Import a disk image, in another terminal", "image-import import debian.qcow2"),
    example("List the images", "image-import image list"),
  ],
  import: [
    example("Import a file, and wait until it is active", "image-import import debian.qcow2"),
    example(
      "Let a worker download it, and check its digest",
      "image-import import https://example.com/debian.qcow2 --checksum sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ),
    example(
      "Decompress it, and run no other transform",
      "image-import import debian.qcow2.gz --transform decompress",
    ),
    example("Import several files, four at a time", "image-import import *.qcow2 --parallel 4"),
    example(
      "Import standard input into two stores",
      "image-import import - --name debian --store local --store archive < debian.qcow2",
    ),
  ],
  inspect: [example("Check a file before it is imported", "image-import inspect debian.qcow2")],
  image: [example("List the images that are active", "image-import image list --status active")],
  "image create": [
    example(
      "Create an image, to stage its data later",
      "image-import image create --name debian --disk-format qcow2 --property os_distro=debian --tag nightly",
    ),
  ],
  "image set": [
    example(
      "Change a property and a tag",
      "image-import image set debian --property os_version=13 --remove-tag nightly",
    ),
    example("Give an image another name", "image-import image set 6d2f0c1e --name debian-old"),
    example(
      "Show it to all projects, and forbid its deletion",
      "image-import image set debian --public --protected",
    ),
  ],
  "image member": [
    example("Offer an image to a project", "image-import image member add debian 5f2c1b9e"),
  ],
  "image member list": [
    example(
      "List the projects to which an image is offered",
      "image-import image member list debian",
    ),
  ],
  "image member add": [
    example("Offer an image to a project", "image-import image member add debian 5f2c1b9e"),
  ],
  "image member set": [
    example(
      "Accept an image for a project",
      "image-import image member set debian 5f2c1b9e --status accepted",
    ),
  ],
  "image member remove": [
    example("Offer it no longer", "image-import image member remove debian 5f2c1b9e"),
  ],
  "image stage": [
    example("Stage a file", "image-import image stage debian debian.qcow2"),
    example("Stage standard input", "image-import image stage debian - < debian.qcow2"),
    example(
      "Take a file that is below the staging root already",
      "image-import image stage debian --adopt --uri file:///srv/staging/debian.qcow2",
    ),
  ],
  "image unstage": [
    example("Remove data that is not to be imported", "image-import image unstage debian"),
  ],
  "image start": START("image start"),
  "image copy": [
    example("Copy an image into one more store", "image-import image copy debian --store archive"),
    example(
      "Copy it into all stores that lack it, in the background",
      "image-import image copy debian --all-stores --detach",
    ),
  ],
  "image show": [
    example("Show an image by its name", "image-import image show debian"),
    example("Show it by the beginning of its id, as JSON", "image-import image show 6d2f --json"),
  ],
  "image list": [
    example(
      "List the largest images of a name first",
      "image-import image list --name 'debian-*' --sort size:desc",
    ),
    example(
      "Write the images of the last week to a file",
      "image-import image list --created-after 7d -c id,name,size -f csv > images.csv",
    ),
  ],
  "image history": [
    example(
      "Show where an image came from, and what was done",
      "image-import image history debian",
    ),
    example(
      "Print the digest of each import before its transforms",
      "image-import image history debian --json | jq -r '.[] | select(.before) | .before.os_hash_value'",
    ),
  ],
  "image deactivate": [example("Forbid reading an image", "image-import image deactivate debian")],
  "image reactivate": [example("Allow reading it again", "image-import image reactivate debian")],
  "image delete": [example("Delete two images", "image-import image delete debian 6d2f0c1e")],
  "image remove-copy": [
    example(
      "Remove the copy in a store, and wait until its bytes are gone",
      "image-import image remove-copy debian --store archive --wait",
    ),
  ],
  "image download": [
    example("Write an image to a file", "image-import image download debian -o debian.qcow2"),
    example("Hash its bytes", "image-import image download debian | sha256sum"),
  ],
  "image verify": [
    example("Verify all copies of an image", "image-import image verify debian"),
    example("Verify everything", "image-import image verify --all"),
  ],
  start: START("start"),
  status: [
    example("Show how far an import is", "image-import status debian"),
    example("Show two of them, as JSON", "image-import status debian fedora --json"),
  ],
  watch: [
    example("Follow an import to its end", "image-import watch debian"),
    example("Follow all imports that run, until Ctrl-C", "image-import watch"),
  ],
  pause: [example("Stop moving bytes for a while", "image-import pause debian")],
  resume: [example("Continue a paused import", "image-import resume debian")],
  "drop-store": [
    example(
      "Continue without a store that is unreachable",
      "image-import drop-store debian --store archive",
    ),
  ],
  cancel: [example("Cancel an import, and wait for its undo", "image-import cancel debian --wait")],
  task: [example("List the imports that failed", "image-import task list --status failure")],
  "task list": [
    example("List the tasks of an image", "image-import task list --image debian"),
    example(
      "List why imports of the last day failed",
      "image-import task list --status failure --created-after 1d -c image_id,code,message",
    ),
  ],
  "task show": [example("Show a task, as JSON", "image-import task show 3c0b --json")],
  usage: [example("Show the quotas of an owner", "image-import usage --owner team-a")],
  stores: [
    example("List the stores", "image-import stores"),
    example("Write, read and remove a file in each of them", "image-import stores --check"),
  ],
  dev: [
    example(
      "Run everything, with its data in a directory",
      "image-import dev --data-dir /srv/images",
    ),
  ],
  env: [example("Set the addresses in this shell, for programs", 'eval "$(image-import env)"')],
  doctor: [example("Check everything", "image-import doctor")],
  reconcile: [
    example("List what would be undone and removed", "image-import reconcile --dry-run"),
    example("Do it now", "image-import reconcile"),
  ],
  api: [example("Serve the API to programs on this host", "image-import api --port 9292")],
  token: [
    example(
      "Make a token for a program of the project demo",
      "image-import token --user ci --project demo --role member",
    ),
  ],
  worker: [
    example(
      "Run a worker with a configuration of its own",
      "image-import worker --config /etc/image-import.yaml --health-port 8080 --metrics-port 9090",
    ),
  ],
  completion: [
    example("Complete commands in this bash", 'eval "$(image-import completion bash)"'),
    example("Write the script for fish", "image-import completion fish > image-import.fish"),
  ],
  migrate: [example("Bring the database of a new version up to date", "image-import migrate")],
};
