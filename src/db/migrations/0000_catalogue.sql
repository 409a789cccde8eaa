CREATE TABLE "image_locations" (
	"image_id" uuid NOT NULL,
	"store" text NOT NULL,
	"epoch" integer NOT NULL,
	"status" text NOT NULL,
	"node" text NOT NULL,
	"key" text NOT NULL,
	"url" text NOT NULL,
	"size" bigint NOT NULL,
	"crc32" bigint NOT NULL,
	"shared" boolean DEFAULT false NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "image_locations_image_id_store_epoch_pk" PRIMARY KEY("image_id","store","epoch"),
	CONSTRAINT "image_locations_status_legal" CHECK ("image_locations"."status" IN ('pending', 'active', 'pending_delete'))
);
--> statement-breakpoint
CREATE TABLE "image_properties" (
	"image_id" uuid NOT NULL,
	"name" text NOT NULL,
	"value" text NOT NULL,
	CONSTRAINT "image_properties_image_id_name_pk" PRIMARY KEY("image_id","name"),
	CONSTRAINT "image_properties_not_reserved" CHECK (NOT starts_with("image_properties"."name", 'os_glance_'))
);
--> statement-breakpoint
CREATE TABLE "image_tags" (
	"image_id" uuid NOT NULL,
	"tag" text NOT NULL,
	CONSTRAINT "image_tags_image_id_tag_pk" PRIMARY KEY("image_id","tag")
);
--> statement-breakpoint
CREATE TABLE "images" (
	"id" uuid PRIMARY KEY NOT NULL,
	"name" text,
	"owner" text,
	"status" text DEFAULT 'queued' NOT NULL,
	"disk_format" text,
	"container_format" text,
	"size" bigint,
	"virtual_size" bigint,
	"checksum" text,
	"os_hash_algo" text,
	"os_hash_value" text,
	"os_glance_importing_to_stores" text[] DEFAULT '{}' NOT NULL,
	"os_glance_failed_import" text[] DEFAULT '{}' NOT NULL,
	"epoch" integer DEFAULT 0 NOT NULL,
	"claim_task_id" uuid,
	"claim_workflow_id" text,
	"claim_run_id" text,
	"claim_earlier_status" text,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp with time zone,
	CONSTRAINT "images_status_legal" CHECK ("images"."status" IN ('queued', 'uploading', 'importing', 'saving', 'active', 'deactivated', 'pending_delete', 'deleted')),
	CONSTRAINT "images_disk_format_known" CHECK ("images"."disk_format" IN ('ami', 'ari', 'aki', 'vhd', 'vhdx', 'vmdk', 'raw', 'qcow2', 'vdi', 'iso', 'ploop')),
	CONSTRAINT "images_container_format_known" CHECK ("images"."container_format" IN ('ami', 'ari', 'aki', 'bare', 'ovf', 'ova', 'docker', 'compressed')),
	CONSTRAINT "images_importing_is_claimed" CHECK ("images"."status" NOT IN ('importing', 'saving') OR "images"."claim_task_id" IS NOT NULL),
	CONSTRAINT "images_claim_whole" CHECK (num_nonnulls("images"."claim_task_id", "images"."claim_workflow_id", "images"."claim_run_id", "images"."claim_earlier_status") IN (0, 4)),
	CONSTRAINT "images_active_is_verified" CHECK ("images"."status" NOT IN ('active', 'deactivated') OR num_nonnulls("images"."size", "images"."checksum", "images"."os_hash_algo", "images"."os_hash_value") = 4)
);
--> statement-breakpoint
CREATE TABLE "leases" (
	"image_id" uuid NOT NULL,
	"epoch" integer NOT NULL,
	"store" text NOT NULL,
	"node" text NOT NULL,
	"token" uuid NOT NULL,
	"writer" jsonb NOT NULL,
	"part" text NOT NULL,
	"key" text NOT NULL,
	"state" text NOT NULL,
	"size" bigint,
	"crc32" bigint,
	"shared" boolean DEFAULT false NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "leases_image_id_epoch_store_pk" PRIMARY KEY("image_id","epoch","store"),
	CONSTRAINT "leases_state_legal" CHECK ("leases"."state" IN ('writing', 'published'))
);
--> statement-breakpoint
CREATE TABLE "staged_files" (
	"image_id" uuid PRIMARY KEY NOT NULL,
	"node" text NOT NULL,
	"state" text NOT NULL,
	"token" uuid NOT NULL,
	"writer" jsonb NOT NULL,
	"renewed_at" timestamp with time zone DEFAULT now() NOT NULL,
	"part" text,
	"path" text NOT NULL,
	"ours" boolean NOT NULL,
	"size" bigint,
	"fingerprint" jsonb,
	"checksum" text,
	"os_hash_algo" text,
	"os_hash_value" text,
	"crc32" bigint,
	"linked_store" text,
	"staged_at" timestamp with time zone,
	"expires_at" timestamp with time zone,
	CONSTRAINT "staged_files_state_legal" CHECK ("staged_files"."state" IN ('staging', 'staged')),
	CONSTRAINT "staged_files_staged_is_whole" CHECK ("staged_files"."state" = 'staging' OR (num_nonnulls("staged_files"."size", "staged_files"."fingerprint", "staged_files"."staged_at", "staged_files"."expires_at") = 4 AND "staged_files"."part" IS NULL))
);
--> statement-breakpoint
CREATE TABLE "tasks" (
	"id" uuid PRIMARY KEY NOT NULL,
	"type" text DEFAULT 'api_image_import' NOT NULL,
	"status" text DEFAULT 'pending' NOT NULL,
	"owner" text,
	"image_id" uuid NOT NULL,
	"request_id" text,
	"workflow_id" text NOT NULL,
	"run_id" text NOT NULL,
	"input" jsonb NOT NULL,
	"result" jsonb,
	"message" text DEFAULT '' NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp with time zone,
	CONSTRAINT "tasks_status_legal" CHECK ("tasks"."status" IN ('pending', 'processing', 'success', 'failure'))
);
--> statement-breakpoint
ALTER TABLE "image_locations" ADD CONSTRAINT "image_locations_image_id_images_id_fk" FOREIGN KEY ("image_id") REFERENCES "public"."images"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "image_properties" ADD CONSTRAINT "image_properties_image_id_images_id_fk" FOREIGN KEY ("image_id") REFERENCES "public"."images"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "image_tags" ADD CONSTRAINT "image_tags_image_id_images_id_fk" FOREIGN KEY ("image_id") REFERENCES "public"."images"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "staged_files" ADD CONSTRAINT "staged_files_image_id_images_id_fk" FOREIGN KEY ("image_id") REFERENCES "public"."images"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "image_locations_one_live" ON "image_locations" USING btree ("image_id","store") WHERE "image_locations"."status" <> 'pending_delete';--> statement-breakpoint
CREATE INDEX "images_status_index" ON "images" USING btree ("status");--> statement-breakpoint
CREATE INDEX "images_created_index" ON "images" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "tasks_image_index" ON "tasks" USING btree ("image_id","created_at");