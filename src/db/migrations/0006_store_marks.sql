CREATE TABLE "store_marks" (
	"store" text PRIMARY KEY NOT NULL,
	"mark" text NOT NULL,
	"recorded_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "store_marks_mark_unique" UNIQUE("mark")
);
--> statement-breakpoint
ALTER TABLE "image_locations" ADD COLUMN "version" text;--> statement-breakpoint
ALTER TABLE "image_locations" ADD COLUMN "damage" text;--> statement-breakpoint
ALTER TABLE "leases" ADD COLUMN "version" text;