-- The leases of uploads, downloads, products and transforms join those of copies. Stop all workers
-- and uploads before: their version does not know this table.
LOCK TABLE "leases", "staged_files", "transform_undos" IN ACCESS EXCLUSIVE MODE;
--> statement-breakpoint
CREATE TABLE "one_lease" (
	"image_id" uuid NOT NULL,
	"epoch" integer NOT NULL,
	"place" text NOT NULL,
	"node" text NOT NULL,
	"token" uuid NOT NULL,
	"writer" jsonb NOT NULL,
	"attempt" jsonb,
	"part" text,
	"earlier_parts" text[] DEFAULT '{}' NOT NULL,
	"path" text NOT NULL,
	"state" text NOT NULL,
	"renewed_at" timestamp with time zone DEFAULT now() NOT NULL,
	"reserved" bigint DEFAULT 0 NOT NULL,
	"fetched_from" jsonb,
	"single_connection" boolean DEFAULT false NOT NULL,
	"copy" jsonb,
	"effects" jsonb
);
--> statement-breakpoint
INSERT INTO "one_lease" ("image_id", "epoch", "place", "node", "token", "writer", "attempt", "part", "earlier_parts", "path", "state", "renewed_at", "copy")
SELECT "image_id", "epoch", 'store/' || "store", "node", "token", "writer", "attempt", "part", "earlier_parts", "key",
	CASE WHEN "state" = 'published' AND "size" IS NOT NULL AND "crc32" IS NOT NULL THEN 'whole' ELSE 'writing' END, "updated_at",
	CASE WHEN "state" = 'published' AND "size" IS NOT NULL AND "crc32" IS NOT NULL
		THEN jsonb_strip_nulls(jsonb_build_object('sizeBytes', "size", 'crc32', "crc32", 'shared', "shared", 'version', "version")) END
FROM "leases";
--> statement-breakpoint
INSERT INTO "one_lease" ("image_id", "epoch", "place", "node", "token", "writer", "attempt", "part", "path", "state", "renewed_at", "reserved", "fetched_from", "single_connection")
SELECT "image_id", coalesce("epoch", 0),
	CASE WHEN "product" > 0 THEN 'product/' || "product" WHEN "epoch" IS NULL THEN 'upload' ELSE 'download' END,
	"node", "token", "writer", "attempt",
	CASE WHEN "part" IS NULL AND "path" ~ '\.product$' THEN regexp_replace("path", '^.*/([^/]*)\.product$', '\1.part') ELSE "part" END,
	"path", CASE "state" WHEN 'staged' THEN 'whole' ELSE 'writing' END,
	"renewed_at", "reserved", "fetched_from", "single_connection"
FROM "staged_files";
--> statement-breakpoint
-- No process writes the effects of a transform: the row is the promise to undo them.
INSERT INTO "one_lease" ("image_id", "epoch", "place", "node", "token", "writer", "path", "state", "effects")
SELECT "image_id", "epoch", 'transform/' || "transform", "node", gen_random_uuid(),
	'{"machine": "", "bootId": "", "pidNamespace": "", "pid": 0, "startTicks": 0}', '', 'writing',
	jsonb_build_object('diskFormat', "disk_format", 'containerFormat', "container_format", 'roles', to_jsonb("roles"))
FROM "transform_undos";
--> statement-breakpoint
DROP TABLE "leases";
--> statement-breakpoint
DROP TABLE "transform_undos";
--> statement-breakpoint
ALTER TABLE "one_lease" RENAME TO "leases";
--> statement-breakpoint
ALTER TABLE "leases" ADD CONSTRAINT "leases_image_id_epoch_place_pk" PRIMARY KEY("image_id","epoch","place");
--> statement-breakpoint
ALTER TABLE "leases" ADD CONSTRAINT "leases_state_legal" CHECK ("leases"."state" IN ('writing', 'whole'));
--> statement-breakpoint
ALTER TABLE "leases" ADD CONSTRAINT "leases_whole_copy_is_checked" CHECK ("leases"."state" = 'writing' OR NOT starts_with("leases"."place", 'store/') OR "leases"."copy" IS NOT NULL);
--> statement-breakpoint
CREATE INDEX "leases_path_index" ON "leases" USING btree ("path");
--> statement-breakpoint
ALTER TABLE "staged_files" RENAME TO "staged_rows";
--> statement-breakpoint
CREATE TABLE "staged_files" (
	"image_id" uuid NOT NULL,
	"epoch" integer NOT NULL,
	"place" text NOT NULL,
	"ours" boolean NOT NULL,
	"size" bigint NOT NULL,
	"fingerprint" jsonb NOT NULL,
	"checksum" text,
	"os_hash_algo" text,
	"os_hash_value" text,
	"crc32" bigint,
	"zero_blocks" text DEFAULT '' NOT NULL,
	"linked_store" text,
	"staged_at" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"made" jsonb,
	CONSTRAINT "staged_files_image_id_epoch_place_pk" PRIMARY KEY("image_id","epoch","place")
);
--> statement-breakpoint
INSERT INTO "staged_files" ("image_id", "epoch", "place", "ours", "size", "fingerprint", "checksum", "os_hash_algo", "os_hash_value", "crc32", "zero_blocks", "linked_store", "staged_at", "expires_at", "made")
SELECT "image_id", coalesce("epoch", 0),
	CASE WHEN "product" > 0 THEN 'product/' || "product" WHEN "epoch" IS NULL THEN 'upload' ELSE 'download' END,
	"ours", "size", "fingerprint", "checksum", "os_hash_algo", "os_hash_value", "crc32", "zero_blocks", "linked_store", "staged_at", "expires_at", "made"
FROM "staged_rows"
WHERE num_nonnulls("size", "fingerprint", "staged_at", "expires_at") = 4;
--> statement-breakpoint
DROP TABLE "staged_rows";
--> statement-breakpoint
ALTER TABLE "staged_files" ADD CONSTRAINT "staged_files_lease_fk" FOREIGN KEY ("image_id","epoch","place") REFERENCES "public"."leases"("image_id","epoch","place") ON DELETE cascade ON UPDATE no action;
