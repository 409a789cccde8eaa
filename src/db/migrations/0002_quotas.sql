ALTER TABLE "images" ADD COLUMN "claim_size" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "images" ADD COLUMN "claim_copies" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "images" ADD COLUMN "claim_products" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "staged_files" ADD COLUMN "reserved" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
CREATE INDEX "images_owner_index" ON "images" USING btree ("owner");