CREATE INDEX "image_tags_tag_index" ON "image_tags" USING btree ("tag");--> statement-breakpoint
CREATE INDEX "images_name_index" ON "images" USING btree ("name","id") WHERE "images"."status" <> 'deleted';--> statement-breakpoint
CREATE INDEX "tasks_created_index" ON "tasks" USING btree ("created_at");