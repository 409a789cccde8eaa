CREATE TABLE "image_members" (
	"image_id" uuid NOT NULL,
	"member" text NOT NULL,
	"status" text DEFAULT 'pending' NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "image_members_image_id_member_pk" PRIMARY KEY("image_id","member"),
	CONSTRAINT "image_members_status_legal" CHECK ("image_members"."status" IN ('pending', 'accepted', 'rejected'))
);
--> statement-breakpoint
DROP INDEX "image_tags_tag_index";--> statement-breakpoint
DROP INDEX "images_status_index";--> statement-breakpoint
DROP INDEX "images_created_index";--> statement-breakpoint
ALTER TABLE "image_properties" ADD COLUMN "value_start" text GENERATED ALWAYS AS (left(value, 100)) STORED NOT NULL;--> statement-breakpoint
ALTER TABLE "images" ADD COLUMN "visibility" text DEFAULT 'shared' NOT NULL;--> statement-breakpoint
ALTER TABLE "images" ADD COLUMN "protected" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "images" ADD COLUMN "os_hidden" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "images" ADD COLUMN "min_disk" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "images" ADD COLUMN "min_ram" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "user_id" text;--> statement-breakpoint
ALTER TABLE "image_members" ADD CONSTRAINT "image_members_image_id_images_id_fk" FOREIGN KEY ("image_id") REFERENCES "public"."images"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "image_members_member_index" ON "image_members" USING btree ("member","status","image_id");--> statement-breakpoint
CREATE INDEX "image_locations_store_index" ON "image_locations" USING btree ("store","image_id");--> statement-breakpoint
CREATE INDEX "image_properties_value_index" ON "image_properties" USING btree ("name","value_start","image_id");--> statement-breakpoint
CREATE INDEX "images_updated_index" ON "images" USING btree ("updated_at","created_at","id");--> statement-breakpoint
CREATE INDEX "images_name_order_index" ON "images" USING btree (coalesce("name", ''),"created_at","id");--> statement-breakpoint
CREATE INDEX "images_owner_order_index" ON "images" USING btree (coalesce("owner", ''),"created_at","id");--> statement-breakpoint
CREATE INDEX "images_disk_format_index" ON "images" USING btree (coalesce("disk_format", ''),"created_at","id");--> statement-breakpoint
CREATE INDEX "images_container_format_index" ON "images" USING btree (coalesce("container_format", ''),"created_at","id");--> statement-breakpoint
CREATE INDEX "images_size_index" ON "images" USING btree (coalesce("size", 0),"created_at","id");--> statement-breakpoint
CREATE INDEX "images_visibility_index" ON "images" USING btree ("visibility","created_at","id");--> statement-breakpoint
CREATE INDEX "images_protected_index" ON "images" USING btree ("created_at","id") WHERE "images"."protected";--> statement-breakpoint
CREATE INDEX "images_hidden_index" ON "images" USING btree ("created_at","id") WHERE "images"."os_hidden";--> statement-breakpoint
CREATE INDEX "images_min_disk_index" ON "images" USING btree ("min_disk","created_at","id");--> statement-breakpoint
CREATE INDEX "images_min_ram_index" ON "images" USING btree ("min_ram","created_at","id");--> statement-breakpoint
CREATE INDEX "images_checksum_index" ON "images" USING hash ("checksum");--> statement-breakpoint
CREATE INDEX "images_os_hash_value_index" ON "images" USING hash ("os_hash_value");--> statement-breakpoint
CREATE INDEX "image_tags_tag_index" ON "image_tags" USING btree ("tag","image_id");--> statement-breakpoint
CREATE INDEX "images_status_index" ON "images" USING btree ("status","created_at","id");--> statement-breakpoint
CREATE INDEX "images_created_index" ON "images" USING btree ("created_at","id");--> statement-breakpoint
ALTER TABLE "images" ADD CONSTRAINT "images_visibility_legal" CHECK ("images"."visibility" IN ('public', 'community', 'shared', 'private'));--> statement-breakpoint
ALTER TABLE "images" ADD CONSTRAINT "images_minima_not_negative" CHECK ("images"."min_disk" >= 0 AND "images"."min_ram" >= 0);--> statement-breakpoint
CREATE STATISTICS "image_properties_pairs" (mcv) ON "name", "value_start" FROM "image_properties";--> statement-breakpoint
ANALYZE "images", "image_properties";
