CREATE TABLE "transform_undos" (
	"image_id" uuid NOT NULL,
	"epoch" integer NOT NULL,
	"transform" text NOT NULL,
	"node" text NOT NULL,
	"disk_format" text NOT NULL,
	"container_format" text NOT NULL,
	"roles" text[] NOT NULL,
	CONSTRAINT "transform_undos_image_id_epoch_transform_pk" PRIMARY KEY("image_id","epoch","transform")
);
--> statement-breakpoint
ALTER TABLE "staged_files" DROP CONSTRAINT "staged_files_pkey";--> statement-breakpoint
ALTER TABLE "staged_files" ADD COLUMN "product" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "staged_files" ADD CONSTRAINT "staged_files_image_id_product_pk" PRIMARY KEY("image_id","product");--> statement-breakpoint
ALTER TABLE "staged_files" ADD COLUMN "epoch" integer;--> statement-breakpoint
ALTER TABLE "staged_files" ADD COLUMN "made" jsonb;--> statement-breakpoint
ALTER TABLE "transform_undos" ADD CONSTRAINT "transform_undos_image_id_images_id_fk" FOREIGN KEY ("image_id") REFERENCES "public"."images"("id") ON DELETE no action ON UPDATE no action;