import { BaseSequencer, type TestProject, type TestSpecification } from "vitest/node";

/**
 * Runs the files of all projects beside each other: some projects mostly compute, such as `cli`
 * whose tests start many processes, others mostly wait, such as `workflow` whose tests sit out
 * deadlines. Vitest's own order is project by project, which leaves the cores idle in the latter.
 */
export default class InterleavedProjects extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    // Within a project, files that take long run first.
    const sorted = await super.sort(files);
    const sizes = new Map<TestProject, number>();
    for (const { project } of sorted) sizes.set(project, (sizes.get(project) ?? 0) + 1);
    const places = new Map<TestProject, number>();
    return sorted
      .map((file) => {
        const place = places.get(file.project) ?? 0;
        places.set(file.project, place + 1);
        const share = place / (sizes.get(file.project) ?? 1);
        return { file, order: file.project.config.sequence.groupOrder + share };
      })
      .sort((a, b) => a.order - b.order)
      .map(({ file }) => file);
  }
}
